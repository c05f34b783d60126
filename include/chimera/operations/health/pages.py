"""The health pages as HTML: facts and states in, text out."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from include.chimera.errors import ConfigurationError
from include.chimera.operations.health.reasons import objective
from include.chimera.operations.health.table_states import STATES
from include.chimera.paths import PROJECT
from include.chimera.settings import get_settings
from include.chimera.window import HOUR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.chimera.operations.gaps import Gap
    from include.chimera.operations.health.known_facts import Known
    from include.chimera.operations.health.table_states import TableState
    from include.chimera.window import Window

LABELS = {
    "accept": "Accept these rows",
    "restage": "Stage and judge again",
    "rerun": "Run the failed tasks again",
    "stop": "Stop publishing",
    "resume": "Resume publishing",
    "restore": "Put back to a version",
    "replay": "Replay the letters",
    "heal": "Heal the gap",
}
EFFECTS = {
    "accept": "Exactly the rows staged now are published in spite of the rules that they break. "
    "The gate runs again, and what waits for it.",
    "restage": "The task that staged the rows runs again, then its gate and all that waits for it.",
    "rerun": "The run's failed tasks run again, with all that waits for them. Nothing is published "
    "twice.",
    "stop": "No gate commits until publishing is resumed. What is published stays.",
    "resume": "Gates commit again. Then run the refused gates again.",
    "restore": "One more commit gives the table its rows as of that version. Publishing has to be "
    "stopped. The next run reads again what came after.",
    "replay": "The letters that wait are parsed, judged and published again, by a run for it.",
    "heal": "The missing hours are computed again, in a run of the hourly DAG.",
}

_WHY_MISSING = {
    None: "no run has worked on it: chimera_catch_up begins one within minutes, unless it or the "
    "scheduler rests",
    "failed": "its run failed: mend what the run's page names, then run its failed tasks again",
    "success": "its run succeeded, but left these tables out",
}


@dataclass(frozen=True)
class MissingHours:
    """Consecutive hours that tables lack.

    Args:
        window: The hours.
        tables: The tables that lack them.
        why: Why, in a sentence.
        run_id: The newest run for the first of them; "": there is none.
    """

    window: Window
    tables: tuple[str, ...]
    why: str
    run_id: str


def overview(
    known: Known,
    states: Sequence[TableState],
    gaps: Sequence[Gap],
    errors: Mapping[str, str],
    **about: object,
) -> str:
    """Return the page about all tables, the worst first.

    Args:
        known: What is known.
        states: The tables, the worst first.
        gaps: Hours that tables lack.
        errors: What a failed task said last, by table.
        about: Of the page itself: `root` and `ui` (paths), `user`, `may_change`.
    """
    counts = Counter(item.state for item in states)
    return render(
        "overview.html.j2",
        known=known,
        states=states,
        now=known.now,
        bad=_alike([item for item in states if item.needs_a_person and not item.waits], errors),
        blocked=[item for item in states if item.waits],
        counts={word: counts[word] for word in STATES if counts[word]},
        objective_minutes=(objective() - HOUR).total_seconds() / 60,
        missing=_missing(known, gaps),
        errors=errors,
        **about,
    )


def later(known: Known, states: Sequence[TableState], **about: object) -> str:
    """Return what takes longer to read, a part of the page about all tables; see `overview`."""
    target = get_settings().freshness_target
    return render("later.html.j2", known=known, states=states, target=target, **about)


def _alike(states: Sequence[TableState], errors: Mapping[str, str]) -> list[list[TableState]]:
    """Put tables together whose state has the same cause, so that a cause is read once."""
    found: dict[tuple[str, str], list[TableState]] = defaultdict(list)
    for item in states:
        found[item.state, errors.get(item.table, item.reason.cause)].append(item)
    return [*found.values()]


def _missing(known: Known, gaps: Sequence[Gap]) -> list[MissingHours]:
    """Put gaps of the same hours together, the newest first."""
    tables: dict[Window, list[str]] = defaultdict(list)
    for gap in gaps:
        tables[gap.window].append(gap.table)
    found = []
    for window, names in sorted(tables.items(), reverse=True):
        start = window.start
        runs = [run for run in known.runs if run.run.window.start <= start < run.run.window.end]
        newest = max(runs, key=lambda run: run.started_at or known.now, default=None)
        why = _WHY_MISSING.get(newest.state if newest else None, "its run is at work")
        run_id = newest.run.run_id if newest else ""
        found.append(MissingHours(window, tuple(names), why, run_id))
    return found


def runbook(**about: object) -> str:
    """Return the runbook as a page whose sections can be linked to; see `overview` for `about`.

    Raises:
        ConfigurationError: It is not where the project is.
    """
    place = PROJECT / "docs" / "runbook.md"
    if not place.is_file():
        raise ConfigurationError(
            expected="the runbook beside the project's code",
            came="no such file",
            where=str(place),
            remedy="let the image take docs/runbook.md along (.dockerignore)",
        )
    markdown = MarkdownIt("commonmark").enable("table")
    tokens = markdown.parse(place.read_text())
    for heading, words in pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", words.content.lower().replace(" ", "-"))
    body = markdown.renderer.render(tokens, markdown.options, {})
    return render("text.html.j2", title="Runbook", body=Markup(body), **about)  # noqa: S704 - ours


def render(template: str, **values: Any) -> str:  # noqa: ANN401 - what the template shows
    """Return a page of this folder."""
    environment = _environment()
    script = Markup((Path(__file__).parent / "health.js").read_text())  # noqa: S704 - our own file
    page = environment.get_template(template)
    return page.render(labels=LABELS, effects=EFFECTS, script=script, **values)


def _code(text: str) -> Markup:
    """Return a description, whose code stands in backticks, as HTML."""
    parts = enumerate(text.split("`"))
    code = Markup("<code>{}</code>")
    return Markup().join(code.format(part) if place % 2 else part for place, part in parts)


@cache
def _environment() -> jinja2.Environment:
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([here, here.parent]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["code"] = _code
    return environment
