"""Show docs/ in Airflow's UI, behind its login: the pages that DAGs and tasks link to."""

from __future__ import annotations

import posixpath
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

from include.chimera.flow.doc_pages.task_pages import PREFIX, slug
from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from fastapi import FastAPI

DOCS = PROJECT / "docs"
_LOOK = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto }}
body {{ padding: 0 1rem }}
pre, code {{ font-size: .9em; background: color-mix(in srgb, currentColor 8%, transparent) }}
pre, table {{ overflow-x: auto; display: block }} pre {{ padding: .7rem }}
table {{ border-collapse: collapse }}
td, th {{ border: 1px solid; padding: .3rem .6rem; text-align: left }}
:target {{ text-decoration: underline }}</style>{body}"""


def render(name: str) -> str:
    """Return a page of docs/ as HTML; its links lead to other pages of docs/ alone.

    Args:
        name: Its path below docs/, without `.md`.
    """
    from markdown_it import MarkdownIt  # noqa: PLC0415 - the API server's alone

    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = markdown.parse((DOCS / f"{name}.md").read_text())
    for token, content in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", slug(content.content))
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", _target(name, str(child.attrGet("href"))))
    body = markdown.renderer.render(tokens, markdown.options, {})
    return _LOOK.format(title=name, body=body)


def _target(name: str, link: str) -> str:
    """Return where a link of a page leads: relative to the page, without `.md`; "#": nowhere."""
    if re.match(r"https?://|#", link):
        return link
    path, _, anchor = link.partition("#")
    found = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)).removesuffix(".md")
    if not path.endswith(".md") or found not in names():
        return "#"
    up = "../" * name.count("/")
    return f"{up}{found}{'#' if anchor else ''}{anchor}"


def names() -> set[str]:
    """Return the pages that can be shown."""
    return {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")}


def _app() -> FastAPI:
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView  # noqa: PLC0415
    from airflow.api_fastapi.core_api.security import requires_access_view  # noqa: PLC0415
    from fastapi import Depends, FastAPI, HTTPException  # noqa: PLC0415
    from fastapi.responses import HTMLResponse  # noqa: PLC0415

    # Its own documentation would be one more route that answers without a login.
    login = [Depends(requires_access_view(AccessView.DOCS))]
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, dependencies=login)

    @app.get("/{name:path}", response_class=HTMLResponse)
    def show(name: str) -> str:
        if name not in names():
            raise HTTPException(404, "no such page of docs/")
        return render(name)

    return app


class DocsPages(AirflowPlugin):
    """Registers the pages' route."""

    name = "chimera_docs_pages"

    @property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]  # Airflow reads it of an instance
        """The routes, which only the API server asks for: no other component imports them."""
        return [{"app": _app(), "url_prefix": PREFIX, "name": "chimera_docs"}]
