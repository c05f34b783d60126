"""The commands around gates: validate, accept, staged, snapshot, report.

Commands import what they need when they run: GX alone takes three seconds.
"""
# ruff: noqa: PLC0415  # see above

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path  # noqa: TC003  # typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from include.chimera.cli.conventions import AsJson, example, print_json
from include.chimera.observe.terminal import echo, make_console
from include.chimera.relation import gate_id

if TYPE_CHECKING:
    from include.chimera.lake.staged.verdicts import Verdict

_TABLE, _RUN = "bronze.evaluations", "scheduled__2026-03-02T10:00:00+00:00"
TableArgument = Annotated[str, typer.Argument(help="<layer>.<table>.")]
RunOption = Annotated[str, typer.Option("--run", help="Airflow's run id; the newest by default.")]


def add_commands(app: typer.Typer) -> None:
    """Add the gates' commands to the application."""
    for command, words in (
        (validate, f"validate {_TABLE} --run {_RUN}"),
        (accept, f"accept {_TABLE} --run {_RUN} --reason 'Known: see the ticket'"),
        (staged, f"staged {_TABLE}"),
        (snapshot, f"snapshot --run {_RUN}"),
        (report, f"report --run {_RUN}"),
    ):
        app.command(epilog=example(words))(command)


def validate(table: TableArgument, run: RunOption = "latest", as_json: AsJson = False) -> None:
    """Judge what a run staged for <layer>.<table> again, without committing anything."""
    from include.chimera.quality.acceptance import find_run
    from include.chimera.quality.gate import open_gate

    with open_gate(table, find_run(table, run)) as gate:
        verdict = gate.checkpoint(gate.context()).run()
        if as_json:
            print_json(_counts(verdict))
        else:
            show_verdict(verdict, f"{table}, run {gate.run.run_id}")
    raise typer.Exit(0 if verdict.success else 1)


def accept(
    table: TableArgument,
    reason: Annotated[str, typer.Option(help="Why these rows may be published; it is recorded.")],
    run: RunOption = "latest",
    as_json: AsJson = False,
) -> None:
    """Let a failed gate through; clear the gate's task afterwards to publish."""
    from include.chimera.quality import acceptance

    found = acceptance.accept(table, run, reason)
    if as_json:
        print_json(found)
        return
    echo(f"{found.accepted_by} accepts {table} of run {found.run_id}")
    echo(f"rules   {', '.join(found.rules)}")
    echo(f"reason  {found.reason}")
    echo(f"Next: clear the task of the gate: {gate_id(table)}")


def staged(table: TableArgument, run: RunOption = "latest", as_json: AsJson = False) -> None:
    """Show which files a run staged for a table, and how to look at them."""
    from include.chimera.lake.staged.manifests import load_manifest
    from include.chimera.quality.acceptance import find_run
    from include.chimera.quality.batches import staged_rows

    found = find_run(table, run)
    query = f"{staged_rows(found, load_manifest(found, table))};"
    if as_json:
        print_json({"table": table, "run_id": found.run_id, "query": query})
    else:
        typer.echo(query)


def snapshot(
    run: Annotated[str | None, typer.Option("--run", help="A run whose gates all passed.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the DuckDB views.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write DuckDB views of the silver and gold tables, pinned to versions of one run."""
    from include.chimera.lake.ops_tables.consistent_snapshots import published_snapshot, write_views

    found = published_snapshot(run)
    path = write_views(found, out)
    if as_json:
        print_json({**asdict(found), "views": str(path)})
        return
    typer.echo(f"{len(found.versions)} tables as run {found.run_id} left them: {path}")


def report(run: RunOption = "latest", as_json: AsJson = False) -> None:
    """Write the quality report of a run as one HTML page."""
    from include.chimera.operations.quality_report import write_report
    from include.chimera.quality.acceptance import find_run

    found = find_run(None, run)
    place = write_report(found)
    if as_json:
        print_json({"run_id": found.run_id, "report": place})
    else:
        typer.echo(place)


def _counts(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict without the examples, which are values."""
    told = {**asdict(verdict), **verdict.describe_dict(), "pass_ratio": verdict.pass_ratio}
    return told | {"results": [{**rule, "examples": None} for rule in told["results"]]}


def show_verdict(verdict: Verdict, title: str) -> None:
    """Print a verdict rule by rule: counts, never values."""
    grid = Table(title=title, title_justify="left")
    for name in ("rule", "severity", "verdict"):
        grid.add_column(name, overflow="fold")
    for name in ("broken", "of", "observed"):
        grid.add_column(name, justify="right")
    for result in verdict.results:
        word = result.error or ("passed" if result.is_passed else "failed")
        numbers = (result.unexpected_count, result.checked_count, result.observed_value)
        grid.add_row(result.rule_id, result.severity, word, *(_number(value) for value in numbers))
    console = make_console()
    console.print(grid)
    console.print(
        f"{verdict.outcome}: {verdict.rows_refused:,} of {verdict.rows:,} rows bad, "
        f"{verdict.pass_ratio:.2%} good, {verdict.min_pass_ratio:.0%} wanted; "
        f"{verdict.seconds:.1f} s"
    )
    if verdict.failed_rules:
        console.print(f"failed: {', '.join(verdict.failed_rules)}")


def _number(value: Any) -> str:  # noqa: ANN401 - an int, a float or None
    return "" if value is None else f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"
