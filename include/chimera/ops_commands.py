"""The command line of the data on call: dead-letters, gaps.

Commands import what they need when they run: GX alone takes three seconds.
"""
# ruff: noqa: PLC0415  # see above

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from include.chimera.inquiry.origin import Origin

dead_letters = typer.Typer(help="Records that could not be published.", no_args_is_help=True)
SourceOption = Annotated[
    str | None, typer.Option(help="Bronze table they were meant for; all by default.")
]


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(dead_letters, name="dead-letters")
    app.command()(gaps)
    app.command()(logs)
    app.command()(trace)


@dead_letters.command("list")
def list_letters(
    source: SourceOption = None,
    state: Annotated[str, typer.Option(help="waiting, published or parked.")] = "waiting",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
) -> None:
    """List letters, the newest first, without their content."""
    from include.chimera.lake.engine import connect, quote
    from include.chimera.lake.letters import letter_states

    where = f"state = {quote(state)}" + (f" and source = {quote(source)}" if source else "")
    shown = "letter_id, source, stage, last_reason, attempts, recorded_at"
    with connect() as connection:
        rows = connection.execute(
            f"select {shown} from ({letter_states()}) where {where} "
            f"order by recorded_at desc, letter_id limit {limit}"
        ).fetchall()
    table = Table(*shown.split(", "))
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)


@dead_letters.command()
def show(letter_id: str) -> None:
    """Show one letter with its payload: a raw row, for your eyes only."""
    from include.chimera.lake.engine import connect, quote
    from include.chimera.lake.letters import letter_states

    with connect() as connection:
        found = connection.execute(
            f"select * from ({letter_states()}) where letter_id = {quote(letter_id)}"
        )
        names = [column[0] for column in found.description or []]
        rows = found.fetchall()
    for row in rows:
        for name, value in zip(names, row, strict=True):
            text = value.decode(errors="replace") if isinstance(value, bytes) else value
            typer.echo(f"{name:<15} {text}")
    raise typer.Exit(0 if rows else 1)


@dead_letters.command()
def replay(
    source: SourceOption = None,
    letter_id: Annotated[
        list[str] | None, typer.Option("--id", help="Only this letter; may be repeated.")
    ] = None,
) -> None:
    """Parse, judge and publish waiting letters again."""
    from include.chimera import replay as replays

    for done in replays.replay(source, letter_id or ()):
        typer.echo(
            f"{done.source} {done.hour}: {done.published} of {done.letters} published, "
            f"{done.parked} parked"
        )


@dead_letters.command()
def park(
    letter_id: str,
    reason: Annotated[str, typer.Option(help="Why it will not be tried again; it is recorded.")],
) -> None:
    """Take a letter out of replay."""
    from include.chimera import replay as replays

    replays.park(letter_id, reason)


def logs(  # noqa: PLR0913, PLR0917 - each is an option
    correlation_id: Annotated[str | None, typer.Option(help="Of a run.")] = None,
    run_id: Annotated[str | None, typer.Option(help="Airflow's id of a run.")] = None,
    task: Annotated[str | None, typer.Option(help="Part of the task id, a regex.")] = None,
    logger: Annotated[str | None, typer.Option(help="Part of the logger, a regex.")] = None,
    level: Annotated[
        str | None, typer.Option(help="Lowest level: debug, info, warning, error, critical.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Part of the message, in any case.")] = None,
    since: Annotated[datetime | None, typer.Option(help="First moment, UTC.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 200,
    root: Annotated[
        str | None, typer.Option(help="Folder or s3:// URL; default: CHIMERA_TASK_LOGS_ROOT.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole lines, as JSON.")] = False,
) -> None:
    """Search the task logs of all runs; exit code 1 if nothing was found."""
    from include.chimera.inquiry.logs import LEVELS, LogQuery, search_logs

    if level is not None and level not in LEVELS:
        raise typer.BadParameter(", ".join(LEVELS), param_hint="--level")
    first = since.replace(tzinfo=since.tzinfo or UTC) if since else None
    query = LogQuery(correlation_id, run_id, task, logger, level, text, first, limit)
    found = search_logs(query, root)
    for line in found:
        typer.echo(
            line["json"]
            if as_json
            else f"{line['logged_at']:%Y-%m-%d %H:%M:%S} {line['level'] or '':<8} "
            f"{line['correlation_id'] or '-':<12} {line['task_id'] or '-'}  {line['event']}"
        )
    raise typer.Exit(0 if found else 1)


def trace(
    table: str,
    where: Annotated[str, typer.Option(help="A DuckDB condition on the table's columns.")],
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows.")] = 3,
    lines: Annotated[int, typer.Option(min=0, help="Log lines per commit.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, without log lines.")] = False,
) -> None:
    """Say which commit, run, dbt invocation, window and source made a row, down to its source."""
    import json

    from include.chimera.inquiry.origin import trace as find

    found = find(table, where, limit)
    if as_json:
        typer.echo(json.dumps([origin.to_dict() for origin in found], indent=2))
    else:
        for origin in found:
            _show_origin(origin, lines)
    raise typer.Exit(0 if found else 1)


def _show_origin(origin: Origin, lines: int, depth: int = 0) -> None:
    from include.chimera.inquiry.logs import LogQuery, search_logs

    indent = "    " * depth
    typer.echo(f"{indent}{origin.table} version {origin.version}, {origin.file}")
    shown = {**origin.key, **origin.commit}
    shown |= {f"read {name}": f"version {read}" for name, read in origin.parents.items()}
    for name, value in shown.items():
        typer.echo(f"{indent}  {name:<16} {value}")
    run_id = origin.commit.get("run_id")
    if run_id and lines:
        layer, _, name = origin.table.partition(".")
        asked = LogQuery(
            run_id=run_id,
            task=rf"\b(gate_{layer}|build|extract)_{name}$",
            logger=r"^(include\.chimera|dbt$)",
            limit=lines,
        )
        for line in search_logs(asked):
            typer.echo(f"{indent}  log {line['logged_at']:%H:%M:%S} {line['event'][:100]}")
    for parent in origin.made_from:
        _show_origin(parent, lines, depth + 1)


def gaps(
    start: Annotated[
        datetime | None, typer.Option(help="First hour; default: the schedule's start date.")
    ] = None,
    end: Annotated[datetime | None, typer.Option(help="Default: the last full hour.")] = None,
) -> None:
    """List the hours that the ledger lacks, and what backfills them; exit code 1 if any."""
    from include.chimera.lake.gaps import find_gaps
    from include.chimera.window import Window, floor_hour

    first = start.replace(tzinfo=start.tzinfo or UTC) if start else get_settings().start_date
    last = end.replace(tzinfo=end.tzinfo or UTC) if end else floor_hour(datetime.now(UTC))
    found = find_gaps(Window(first, last))
    for gap in found:
        typer.echo(f"{gap.table}: {gap.window.start:%Y-%m-%d %H:%M} to {gap.window.end:%H:%M}")
    for command in dict.fromkeys(gap.command for gap in found):
        typer.echo(command)
    raise typer.Exit(1 if found else 0)
