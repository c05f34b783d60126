"""The commands that inspect the lake and the logs: gaps, logs, trace, diff.

Commands import what they need when they run.
"""
# ruff: noqa: PLC0415  # see above

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from include.chimera.cli.conventions import AsJson, example, print_json
from include.chimera.errors import TerminalError
from include.chimera.observe.terminal import echo
from include.chimera.relation import Relation
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from include.chimera.operations.trace import Origin
    from include.chimera.quality.row_differences import RowDifference

_RUNS = ("scheduled__2026-03-02T09:00:00+00:00", "scheduled__2026-03-02T10:00:00+00:00")


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the application."""
    where = "\"generation_id = 'gen-17'\""
    for command, words in (
        (gaps, "gaps --start 2026-03-02T09:00:00 --end 2026-03-02T11:00:00"),
        (logs, "logs --correlation-id 1f1bc2bc8b6e --level error"),
        (trace, f"trace gold.fct_generations --where {where}"),
        (diff, f"diff --run {' '.join(_RUNS)}"),
    ):
        app.command(epilog=example(words))(command)


def gaps(
    start: Annotated[
        datetime | None,
        typer.Option(
            help="First hour, UTC; default: the first that was due: CHIMERA_START_DATE if it is "
            "set here, else the first hour that a run worked on."
        ),
    ] = None,
    end: Annotated[
        datetime | None, typer.Option(help="Default: the last full hour, or CHIMERA_END_DATE.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the hours that tables lack, and what backfills them; exit code 1 if any."""
    from include.chimera.operations.gaps import backfills, find_gaps
    from include.chimera.window import Window, floor_hour

    first = start.replace(tzinfo=start.tzinfo or UTC) if start else _first_due()
    last = _last_due()
    if end:  # an hour that has not ended is not missing
        last = min(end.replace(tzinfo=end.tzinfo or UTC), floor_hour(datetime.now(UTC)))
    if first >= last and not (start or end):
        return  # nothing has been due yet
    found = find_gaps(Window(first, last))
    if as_json:
        for gap in found:
            told = {"table": gap.table, "start": gap.window.start, "end": gap.window.end}
            print_json({**told, "backfill": backfills([gap])[0]})
        raise typer.Exit(1 if found else 0)
    for gap in found:
        typer.echo(f"{gap.table}: {gap.window}")
    for command in backfills(found):
        typer.echo(command)
    raise typer.Exit(1 if found else 0)


def _first_due() -> datetime:
    """Return the first hour that the schedule covered.

    Raises:
        TerminalError: It is neither configured nor recorded in the lake.
    """
    from include.chimera.operations.gaps import first_hour

    settings = get_settings()
    first = settings.start_date or first_hour()
    if first is None:
        raise TerminalError(
            expected="an hour from which on tables should have rows",
            came="a lake in which no run has worked on any",
            where=settings.lake,
            remedy="name the first one: --start, or CHIMERA_START_DATE",
        )
    return first


def _last_due() -> datetime:
    from include.chimera.window import HOUR, floor_hour

    now, last = floor_hour(datetime.now(UTC)), get_settings().end_date
    return min(now, last + HOUR) if last else now


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
    limit: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="At most so many, the newest.")
    ] = 200,
    root: Annotated[
        str | None, typer.Option(help="Folder or s3:// URL; default: CHIMERA_TASK_LOGS_ROOT.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search the task logs of all runs; exit code 1 if nothing was found."""
    import json
    from textwrap import indent

    from include.chimera.observe.logs import describe_error
    from include.chimera.operations.log_search import LEVELS, LogQuery, search_logs

    if level is not None and level not in LEVELS:
        raise typer.BadParameter(", ".join(LEVELS), param_hint="--level")
    first = since.replace(tzinfo=since.tzinfo or UTC) if since else None
    query = LogQuery(correlation_id, run_id, task, logger, level, text, first, limit)
    found = search_logs(query, root)
    for line in found:
        if as_json:
            echo(line.json)
            continue
        head, *rest = str(line.event).split("\n")
        echo(
            f"{line.logged_at:%Y-%m-%d %H:%M:%S} {line.level or '':<8} "
            f"{line.correlation_id or '-':<12} {line.task_id or '-'}  {head}"
        )
        said = describe_error(json.loads(line.json), line.filename)
        for below in filter(str.strip, [*rest, said]):
            echo(indent(below, "    "))
    if not found:
        echo(f"no log line matches in {root or get_settings().task_logs}", err=True)
    raise typer.Exit(0 if found else 1)


def trace(
    table: Annotated[str, typer.Argument(help="<layer>.<table>.")],
    where: Annotated[str, typer.Option(help="A DuckDB condition on the table's columns.")],
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many rows.")] = 3,
    lines: Annotated[int, typer.Option(min=0, help="Log lines per commit.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Say which commit, run, dbt invocation, window and source made a row, down to its source."""
    from include.chimera.operations.trace import trace as find

    found = find(table, where, limit)
    for origin in found:
        if as_json:
            print_json(origin)
        else:
            _show_origin(origin, lines)
    if not found:
        echo("no row of the table meets the condition", err=True)
    raise typer.Exit(0 if found else 1)


def _show_origin(origin: Origin, lines: int, depth: int = 0) -> None:
    from include.chimera.operations.log_search import LogQuery, search_logs

    indent = "    " * depth
    echo(f"{indent}{origin.table} version {origin.version}, {origin.file}")
    shown = {**origin.key, **origin.commit}
    shown |= {f"read {name}": f"version {read}" for name, read in origin.parents.items()}
    for name, value in shown.items():
        echo(f"{indent}  {name:<16} {value}")
    run_id = origin.commit.get("run_id")
    if run_id and lines:
        table, at = Relation.parse(origin.table), origin.commit.get("committed_at")
        asked = LogQuery(
            run_id=run_id,
            task=rf"\b(gate_{table.schema}|build|extract)_{table.identifier}$",
            logger=r"^(include\.chimera|dbt$)",
            attempts_at=datetime.fromisoformat(at) if at else None,
            limit=lines,
        )
        for line in search_logs(asked):
            head = str(line.event).split("\n")[0]
            echo(f"{indent}  log {line.logged_at:%H:%M:%S} {head}")
    for parent in origin.made_from:
        _show_origin(parent, lines, depth + 1)


def diff(
    run: Annotated[
        tuple[str, str],
        typer.Option(help="Two runs, the older first, each by its id or its correlation id."),
    ],
    as_json: AsJson = False,
) -> None:
    """Count what differs between all tables as two runs left them, by key; no value is shown."""
    from include.chimera.operations.versions.whole_runs import differences

    for found in differences(*run):
        if isinstance(found, str):
            alone = {"table": found, "is_in_one_run_only": True}
            print_json(alone) if as_json else echo(f"{found}: only one of the runs published it")
        elif as_json:
            print_json(found)
        else:
            _show_difference(found)


def _show_difference(found: RowDifference) -> None:
    from include.chimera.operations.versions.difference_texts import details_of

    versions = f"{found.table}, version {found.version} to {found.newer}"
    counts = {"added": found.added, "changed": found.changed, "removed": found.removed}
    if found.is_empty:
        echo(f"{versions}: the same {found.same:,} rows")
        return
    by = (
        f"by {', '.join(found.key)}"
        if found.key
        else "by whole rows: nothing says what their key is"
    )
    told = ", ".join(f"{count:,} {word}" for word, count in counts.items())
    echo(f"{versions}: {told}, {found.same:,} as they were ({by})")
    for line in details_of(found):
        echo(f"  {line}")
