"""The commands that repair data: dead-letters, stop-publishing, resume-publishing, restore.

Commands import what they need when they run: GX alone takes three seconds.
"""
# ruff: noqa: PLC0415  # see above

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from include.chimera.cli.conventions import AsJson, example, print_json
from include.chimera.errors import CLI, LetterMissingError
from include.chimera.observe.terminal import echo, make_console, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.chimera.lake.publish.stop_switch import Decision
    from include.chimera.operations.versions.whole_runs import RunPosition

dead_letters = typer.Typer(help="Records that could not be published.", no_args_is_help=True)
_LETTER = "1662fb7a493b6547f49844aadc773843"  # pragma: allowlist secret - a letter's id
_RUN = "scheduled__2026-03-02T10:00:00+00:00"
_ID_WIDTH = len(_LETTER)  # never truncate an id
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


LetterArgument = Annotated[str, typer.Argument(help="Its whole id, as `list` shows it.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is recorded.")]
SourceOption = Annotated[
    str | None,
    typer.Option(help="Bronze table they were meant for; all by default.", callback=_bronze_table),
]


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(dead_letters, name="dead-letters")
    because = "--reason 'cost is off by 1000'"
    for command, words in (
        (stop_publishing, f"stop-publishing {because}"),
        (resume_publishing, "resume-publishing --reason 'the model is mended'"),
        (restore, f"restore --run {_RUN} {because}"),
    ):
        app.command(epilog=example(words))(command)


@dead_letters.command("list", epilog=example("dead-letters list --source bronze.api_logs"))
def list_letters(
    source: SourceOption = None,
    state: Annotated[
        str, typer.Option(help=f"{', '.join(_STATES[:-1])} or {_STATES[-1]}.", callback=_state)
    ] = "waiting",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many.")] = 50,
    as_json: AsJson = False,
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
    total = rows[0][-1] if rows else 0
    left = f"{total - len(rows):,} older ones: --limit {total}, or --source"
    if as_json:
        for *cells, _ in rows:
            print_json(dict(zip(names, cells, strict=True)))
        if total > len(rows):
            echo(left, err=True)
        return
    table = Table(Column(names[0], min_width=_ID_WIDTH, no_wrap=True))
    for name in names[1:]:
        table.add_column(name, overflow="fold")
    for *cells, _ in rows:
        table.add_row(*map(printable, cells))
    console = make_console()
    console.print(table)
    if total > len(rows):
        console.print(left)


@dead_letters.command(epilog=example(f"dead-letters show {_LETTER}"))
def show(letter_id: LetterArgument, as_json: AsJson = False) -> None:
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
    texts = [text.decode(errors="replace") if type(text) is bytes else text for text in values]
    told = dict(zip(names, texts, strict=True))
    if as_json:
        print_json(told)
        return
    for name, text in told.items():
        echo(f"{name:<15} {text}")


@dead_letters.command(epilog=example("dead-letters replay --source bronze.api_logs"))
def replay(
    source: SourceOption = None,
    letter_id: Annotated[
        list[str] | None, typer.Option("--id", help="Only this letter; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Parse, judge and publish waiting letters again."""
    from include.chimera.operations import replay as replays

    tried = 0
    for done in replays.replay(source, letter_id or ()):
        tried += done.letters
        if as_json:
            print_json(done)
            continue
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


@dead_letters.command(
    epilog=example(f"dead-letters park {_LETTER} --reason 'cut off by the application'")
)
def park(
    letter_id: LetterArgument,
    reason: Annotated[str, typer.Option(help="Why it will not be tried again; it is recorded.")],
    as_json: AsJson = False,
) -> None:
    """Take a letter out of replay."""
    from include.chimera.operations import replay as replays

    replays.park(letter_id, reason)
    if as_json:
        print_json({"letter_id": letter_id, "state": "parked"})
    else:
        echo(f"{letter_id} is parked")


@dead_letters.command(epilog=example("dead-letters erase user-42 --reason 'a request of March 2'"))
def erase(
    subject: Annotated[str, typer.Argument(help="A name that stands in payloads, e.g. a user id.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded, so don't name the subject.")],
    is_sure: Annotated[bool, typer.Option("--yes", help="Erase without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase the payloads that name a subject; the vacuum removes the last copies a week later.

    With them the examples in gates' verdicts that may name it, and the quality report.
    """
    from include.chimera.lake.dead_letters import erasure
    from include.chimera.operations.example_erasure import count_examples, erase_examples
    from include.chimera.quality.acceptance import current_user, require_reason

    words, condition = require_reason(reason), erasure.about(subject)
    (count, size), examples = erasure.payloads(condition), count_examples(subject)
    # What is asked about, and the question, are no part of the answer.
    say = partial(typer.echo, err=as_json)
    say(f"{count:,} payloads of dead letters name it exactly as written, {size:,} bytes")
    say(f"{examples:,} examples of broken rules name it, or were cut where they may have")
    if not (count or examples):
        if as_json:
            print_json({"payloads_erased": 0, "examples_erased": 0})
        return
    if not is_sure:
        question = "Erase them for good? Letters that still wait are parked"
        typer.confirm(question, abort=True, err=as_json)
    erased = erasure.erase(condition, words, current_user(), examples)
    say(f"{erased:,} payloads erased")
    found = erase_examples(subject)
    say(f"{found:,} examples of broken rules erased; the next run makes the report anew")
    if as_json:
        print_json({"payloads_erased": erased, "examples_erased": found})


def stop_publishing(reason: ReasonOption, as_json: AsJson = False) -> None:
    """Keep every gate from publishing, until resume-publishing; what is published stays."""
    from include.chimera.operations import manual_controls

    _show_decision(manual_controls.stop_publishing(reason), as_json=as_json)


def resume_publishing(reason: ReasonOption, as_json: AsJson = False) -> None:
    """Let gates publish again; then clear the gates that were refused."""
    from include.chimera.operations import manual_controls

    _show_decision(manual_controls.resume_publishing(reason), as_json=as_json)


def _show_decision(decision: Decision, *, as_json: bool) -> None:
    if as_json:
        print_json(decision)
    else:
        echo(str(decision))


def restore(  # noqa: PLR0913, PLR0917 - the options of two ways to ask
    table: Annotated[str | None, typer.Argument(help="<layer>.<table>, with --version.")] = None,
    version: Annotated[
        int | None, typer.Option(min=0, help="Of that table: the version whose rows are wanted.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Instead: a run, by id or correlation id, to put all its tables back."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; it is recorded, and needed.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --run: only say what it would do.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a table, or all tables of a run, back by one more commit each.

    Publishing has to be stopped. With --run, readers of views.sql are switched once all are back;
    run it again if it was interrupted.
    """
    from include.chimera.operations import manual_controls
    from include.chimera.operations.versions import whole_runs

    if run is not None and table is None and version is None:
        found = (
            whole_runs.find_run_position(run) if dry_run else whole_runs.restore_run(run, reason)
        )
        _show_run_position(found, dry_run=dry_run, as_json=as_json)
        return
    if table is None or version is None or run is not None or dry_run:
        raise typer.BadParameter("<layer>.<table> --version <n>, or --run <run> [--dry-run]")  # noqa: EM101, TRY003 - typer shows it
    made = manual_controls.restore(table, version, reason)
    if as_json:
        print_json({"table": table, "version": made, "restored_to": version})
        return
    typer.echo(f"{table} is at version {made}, with the rows of version {version}")
    _say_next()


def _show_run_position(found: RunPosition, *, dry_run: bool, as_json: bool) -> None:
    run_id = found.snapshot.run_id
    if as_json:
        moves = [
            {
                "table": each.table,
                "version": found.snapshot.versions[each.table],
                "restored_to": each.wanted,
                "replaced": None if each.is_there else each.replaced,
            }
            for each in found.tables
        ]
        told = {"run_id": run_id, "is_dry_run": dry_run, "tables": moves}
        print_json({**told, "left_as_they_are": found.others})
        return
    for each in found.tables:
        if each.is_there:
            echo(f"{each.table}: has the rows of version {each.wanted} already")
        elif dry_run:
            echo(f"{each.table}: version {each.newest} would get the rows of {each.wanted}")
        else:
            made = found.snapshot.versions[each.table]
            echo(f"{each.table}: version {made} has the rows of {each.wanted}")
    for name in found.others:
        echo(f"{name}: left as it is; the run did not publish it")
    if dry_run:
        echo(f"Next: {CLI} stop-publishing, then the same without --dry-run")
        return
    echo(f"Readers of views.sql see run {run_id}")
    _say_next()


def _say_next() -> None:
    typer.echo(
        f"Next: mend the cause, {CLI} resume-publishing; the next run reads what came after again"
    )
