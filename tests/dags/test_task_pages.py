"""What Airflow's UI shows of each DAG and task, and the pages of docs/ that it links to."""

from __future__ import annotations

import re

import pytest
from airflow.dag_processing.dagbag import DagBag
from fastapi.testclient import TestClient

from include.chimera.flow.doc_pages.task_pages import HEALTH, PREFIX, slug
from include.chimera.operations.health.table_graph import table_graph
from include.chimera.paths import PROJECT
from plugins.docs_pages import DocsPages, names, render

HEADINGS = {
    name: {
        slug(text)
        for text in re.findall(
            r"^#+ (.*)$", (PROJECT / f"docs/{name}.md").read_text(), re.MULTILINE
        )
    }
    for name in names()
}


def test_each_dag_and_task_has_paragraphs_and_links_that_lead_somewhere() -> None:
    dags = DagBag(dag_folder=PROJECT / "dags")
    assert not dags.import_errors
    shown = {dag_id: dag.doc_md for dag_id, dag in dags.dags.items()}
    for dag in dags.dags.values():
        shown |= {f"{dag.dag_id}.{task.task_id}": task.doc_md for task in dag.tasks}
    for name in shown:
        links = re.findall(rf"\]\({PREFIX}/([\w-]+)#([\w-]+)\)", shown[name])
        assert links, name
        assert all(page in HEADINGS for page, _ in links), name
        assert shown[name].count("\n\n") > 1, name
        assert {anchor for page, anchor in links if anchor not in HEADINGS[page]} == set(), name
        health = re.findall(rf"\]\({HEALTH}/(?:table/)?([^)]*)\)", shown[name])
        assert len(health) == 1, name
        assert set(health) <= {"", *table_graph()}, name
    assert f"({HEALTH}/table/gold.dim_models)" in shown["chimera_etl_hourly.build_dim_models"]


@pytest.mark.parametrize("name", sorted(names()))
def test_links_between_pages_lead_to_pages_that_are_shown(name: str) -> None:
    """Relative ones, because the UI may stand below a path of its own."""
    html = render(name)
    here = f"{PREFIX}/{name}"
    assert "<h1 id=" in html
    for link in re.findall(r'href="([^"]*)"', html):
        if not link.startswith(("http", "#")):
            path = re.sub(r"/[^/]+/\.\./", "/", here.rpartition("/")[0] + "/" + link.split("#")[0])
            assert path.removeprefix(f"{PREFIX}/") in names(), link


def test_a_page_asks_for_a_login_before_it_says_whether_it_is_there() -> None:
    (registered,) = DocsPages().fastapi_apps
    client = TestClient(registered["app"])
    for path in ("/runbook", "/no-such", "/../.env", "/openapi.json", "/docs"):
        assert client.get(path).status_code == 401, path
