"""The commands that repair data: dead-letters, stop-publishing, resume-publishing, restore.

Commands import what they need when they run: GX alone takes three seconds.
"""
# ruff: noqa: PLC0415  # see above

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from include.chimera.errors import LetterMissingError
from include.chimera.observe.terminal import echo, make_console, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

dead_letters = typer.Typer(help="Records that could not be published.", no_args_is_help=True)
_ID_WIDTH = 32  # never truncate an id
_STATES = ("waiting", "published", "parked")


def _bronze_table(source: str | None) -> str | None:
    """Refuse unknown tables, which would look like sources without letters."""
    from include.chimera.contracts import BRONZE

    return source if source is None else _one_of(source, [contract.name for contract in BRONZE])


def _state(state: str) -> str:
    return _one_of(state, _STATES)


def _one_of(word: str, known: Sequence[str]) -> str:
    if word not in known:
        raise typer.BadParameter(", ".join(known))
    return word


ReasonOption = Annotated[str, typer.Option(help="Why; it is recorded.")]
SourceOption = Annotated[
    str | None,
    typer.Option(help="Bronze table they were meant for; all by default.", callback=_bronze_table),
]


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(dead_letters, name="dead-letters")
    for command in (stop_publishing, resume_publishing, restore):
        app.command()(command)


@dead_letters.command("list")
def list_letters(
    source: SourceOption = None,
    state: Annotated[
        str, typer.Option(help=f"{', '.join(_STATES[:-1])} or {_STATES[-1]}.", callback=_state)
    ] = "waiting",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many.")] = 50,
) -> None:
    """List letters, the newest first, without their content."""
    from include.chimera.lake.dead_letters.letters import letter_states
    from include.chimera.lake.store.duckdb_sessions import connect, quote

    where = f"state = {quote(state)}" + (f" and source = {quote(source)}" if source else "")
    names = ("letter_id", "source", "stage", "last_reason", "attempts", "recorded_at")
    shown = f"{', '.join(names[:-1])}, strftime({names[-1]}, '%Y-%m-%d %H:%M:%S')"
    with connect() as connection:
        rows = connection.execute(
            f"select {shown}, count(*) over () from ({letter_states()}) where {where} "
            f"order by recorded_at desc, letter_id limit {limit}"
        ).fetchall()
    table = Table(Column(names[0], min_width=_ID_WIDTH, no_wrap=True))
    for name in names[1:]:
        table.add_column(name, overflow="fold")
    for *cells, _ in rows:
        table.add_row(*map(printable, cells))
    console = make_console()
    console.print(table)
    if rows and rows[0][-1] > len(rows):
        console.print(f"{rows[0][-1] - len(rows):,} older ones: --limit {rows[0][-1]}, or --source")


@dead_letters.command()
def show(letter_id: str) -> None:
    """Show one letter with its payload: a raw row, for your eyes only."""
    from include.chimera.lake.dead_letters.letters import letter_states
    from include.chimera.lake.store.duckdb_sessions import connect, quote

    with connect() as connection:
        found = connection.execute(
            f"select * from ({letter_states()}) where letter_id = {quote(letter_id)}"
        )
        names, values = [column[0] for column in found.description], found.fetchone()
    if values is None:
        raise LetterMissingError(
            expected="the id of a letter", came=repr(letter_id), where="ops.dead_letters"
        )
    for name, value in zip(names, values, strict=True):
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        echo(f"{name:<15} {text}")


@dead_letters.command()
def replay(
    source: SourceOption = None,
    letter_id: Annotated[
        list[str] | None, typer.Option("--id", help="Only this letter; may be repeated.")
    ] = None,
) -> None:
    """Parse, judge and publish waiting letters again."""
    from include.chimera.operations import replay as replays

    tried = 0
    for done in replays.replay(source, letter_id or ()):
        tried += done.letters
        typer.echo(
            f"{done.source} {done.hour}: {done.published} of {done.letters} published, "
            f"{done.parked} parked"
        )
    left = len({*(letter_id or ())}) - tried
    if left > 0:
        raise LetterMissingError(
            expected="ids of letters that wait for a replay",
            came=f"{left} others",
            where="ops.dead_letters",
        )


@dead_letters.command()
def park(
    letter_id: str,
    reason: Annotated[str, typer.Option(help="Why it will not be tried again; it is recorded.")],
) -> None:
    """Take a letter out of replay."""
    from include.chimera.operations import replay as replays

    replays.park(letter_id, reason)


@dead_letters.command()
def erase(
    subject: Annotated[str, typer.Argument(help="A name that stands in payloads, e.g. a user id.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded, so don't name the subject.")],
    is_sure: Annotated[bool, typer.Option("--yes", help="Erase without asking.")] = False,
) -> None:
    """Erase the payloads that name a subject; the vacuum removes the last copies a week later.

    With them the examples in gates' verdicts that may name it, and the quality report.
    """
    from include.chimera.lake.dead_letters import erasure
    from include.chimera.operations.example_erasure import count_examples, erase_examples
    from include.chimera.quality.acceptance import current_user, require_reason

    words, condition = require_reason(reason), erasure.about(subject)
    (count, size), examples = erasure.payloads(condition), count_examples(subject)
    typer.echo(f"{count:,} payloads of dead letters name it exactly as written, {size:,} bytes")
    typer.echo(f"{examples:,} examples of broken rules name it, or were cut where they may have")
    if not (count or examples):
        return
    if not is_sure:
        typer.confirm("Erase them for good? Letters that still wait are parked", abort=True)
    typer.echo(f"{erasure.erase(condition, words, current_user(), examples):,} payloads erased")
    found = erase_examples(subject)
    typer.echo(f"{found:,} examples of broken rules erased; the next run makes the report anew")


def stop_publishing(reason: ReasonOption) -> None:
    """Keep every gate from publishing, until resume-publishing; what is published stays."""
    from include.chimera.operations import manual_controls

    typer.echo(str(manual_controls.stop_publishing(reason)))


def resume_publishing(reason: ReasonOption) -> None:
    """Let gates publish again; then clear the gates that were refused."""
    from include.chimera.operations import manual_controls

    typer.echo(str(manual_controls.resume_publishing(reason)))


def restore(
    table: Annotated[str, typer.Argument(help="<layer>.<table>.")],
    version: Annotated[int, typer.Option(min=0, help="The version whose rows are wanted.")],
    reason: ReasonOption,
) -> None:
    """Put a table back to a version, by one more commit; publishing has to be stopped."""
    from include.chimera.operations import manual_controls

    made = manual_controls.restore(table, version, reason)
    typer.echo(f"{table} is at version {made}, with the rows of version {version}")
    typer.echo("next  mend the cause, resume-publishing; the next run reads what came after again")
