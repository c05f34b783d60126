"""What Airflow's UI shows of a DAG and a task: paragraphs, and links into docs/."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.configuration import conf

from include.chimera.errors import CLI

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.chimera.profiles.chosen import Intake

PREFIX = "/chimera-docs"
"""Where `plugins/docs_pages.py` shows docs/."""
HEALTH = "/chimera"
"""Where `plugins/health_page.py` shows the tables' health."""
_GATED = ("bronze.", "silver.", "gold.")


def page(*paragraphs: str, table: str = "", runbook: str = "A task failed") -> str:
    """Return Markdown that ends with links.

    Args:
        paragraphs: What the DAG or the task does, and what happens when it fails.
        table: The table that it is about, for links to its health and into the data dictionary; "":
            none.
        runbook: The heading of docs/runbook.md for its failures.
    """
    health = f"{_base()}{HEALTH}/"
    if table.startswith(_GATED):
        links = [f"[the health of `{table}`]({health}table/{table})"]
    else:
        links = [f"[the health of all tables]({health})"]
    links.append(_link(runbook, "runbook", runbook))
    if table:
        links.append(_link(f"what `{table}` holds", "data-dictionary", table))
    links.append(_link("the controls", "runbook", "Controls"))
    told = (*paragraphs, f"**Look further.** {'; '.join(links)}.")
    return "\n\n".join(text.strip() for text in told)


def slug(heading: str) -> str:
    """Return a heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _link(text: str, name: str, heading: str) -> str:
    return f"[{text}]({_base()}{PREFIX}/{name}#{slug(heading)})"


@cache  # asked for thousands of times a parse
def _base() -> str:
    """Return the path that the UI stands below, as a hosted Deployment's does; "": none."""
    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")


def of_extract(intake: Intake) -> str:
    """Return the page of a source's extraction."""
    contract = intake.contract
    return page(
        f"Stages what {intake.reader.shown} (`{intake.source}`) has of the run's hours for "
        f"`{contract.name}`: {contract.description}",
        "No reader sees the rows before the table's gate has judged them. Records that can't be "
        "read become dead letters.",
        "**If it fails**, only what reads this table waits; clear it once the source is well.",
        table=contract.name,
    )


def of_gate(table: str) -> str:
    """Return the page of a table's gate."""
    return page(
        f"Judges what this run staged for `{table}` by the table's rules, and commits exactly "
        "these files if they pass: one version, read back and compared.",
        "**If it fails**, nothing is committed: readers keep the table's last good version, and "
        "what reads the table does not run. A verdict is not tried again; an outage is.",
        f"**Then.** Look at the files: `{CLI} staged {table} --run <run>`. Mend the cause and "
        f"clear the task that staged them, or accept them, `{CLI} accept {table} --run <run> "
        "--reason '…'`, and clear this task.",
        table=table,
        runbook="A gate failed",
    )


def of_model(table: str, node: Mapping[str, Any]) -> str:
    """Return the page of a model's build.

    Args:
        table: The table that it stages; of an ephemeral model, the name that it would have.
        node: The model in dbt's manifest.
    """
    built = f"Builds dbt's model `{node['name']}`: {node['description']}"
    if node["config"]["materialized"] == "ephemeral":
        return page(built, "It is a part of the models that read it: this task does nothing.")
    return page(
        built,
        "It computes the hours that its parents' versions changed, runs the model's tests, and "
        f"stages `{table}` for its gate. No reader sees it before.",
        "**If it fails**, the table and what reads it stay as they are. Clear it with its "
        "descendants once its cause is mended.",
        table=table,
    )


OPTIMIZE = page(
    "Merges the layer's small files and removes files that no version has needed for "
    "`CHIMERA_VACUUM_HOURS`. No row changes; each compaction is compared with what it replaced.",
    "**If it fails**, tables are as they were, and the next hour tries again.",
    runbook="A run is slow",
)
RECORD = page(
    "Runs whatever became of the gates: appends what each rule said to `ops.quality_results`, "
    "sends messages that wait and the run's metrics, and writes the quality report.",
    "**If it fails**, tables are published all the same; clear it to have them recorded.",
    table="ops.quality_results",
)
REPORT = page(
    "Closes the run: appends its counts to `ops.window_ledger` and its versions, if all gates "
    "passed, to `ops.published_versions`, and writes `views.sql`.",
    "**If it fails**, tables are published all the same. It fails with what it waits for: the "
    "run's state is whether all of the hour is there.",
    table="ops.window_ledger",
)
COMPARE = page(
    "Compares all keys of the source's table with the lake's; stages what is gone or came late.",
    "**If it fails**, nothing changes; the next day finds the same.",
)
REPLAY = page(
    "Parses, judges and publishes waiting dead letters again; the params choose them.",
    "**If it fails**, nothing is lost: trigger it again.",
    table="ops.dead_letters",
    runbook="Rows are refused",
)
CLEAN = page(
    "Removes what would otherwise only grow, and returns what it removed; with the param "
    "`dry_run` it returns what it would remove.",
    "**If it fails**, nothing is lost; the next day's run removes the same.",
    runbook="The disk fills up",
)
CHOOSE = page(
    "Looks for hours that the ledger lacks, and chooses the oldest, as many as may run now.",
    "**If it fails**, nothing is lost; the next run finds the same hours.",
    runbook="Hours are missing",
)
RUN_HOURS = page(
    "Begins a run of the hourly DAG for each hour that was chosen; they run beside the schedule's "
    "own. A run of that id that is there already is left alone.",
    "**If it fails**, nothing is lost; the next run finds the same hours.",
    runbook="Hours are missing",
)
TRY = page(
    "Tries, one by one, all that an hour needs. Its log has a line for each check; its error names "
    "all that is missing.",
    "**If it fails**, mend what its error names, and trigger the DAG again.",
    runbook="Promises that lean on libraries",
)
