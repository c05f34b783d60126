"""The command that shows what a change of the dbt project does to the tables.

It imports what it needs when it runs: dbt and GX take seconds.
"""
# ruff: noqa: PLC0415  # see above

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path  # noqa: TC003  # typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from include.chimera.cli.conventions import AsJson, example, print_json
from include.chimera.observe.terminal import make_console, printable

if TYPE_CHECKING:
    from include.chimera.operations.versions.preview import Preview


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=example("preview --base origin/main --comment preview.md"))(preview)


def preview(
    base: Annotated[
        str,
        typer.Option(help="What production runs: a git reference, or a folder with its manifest."),
    ] = "origin/main",
    hours: Annotated[
        int, typer.Option(min=1, help="The last published hours, which are built anew.")
    ] = 24,
    comment: Annotated[
        Path | None, typer.Option(help="Write it as Markdown, too, for a pull request.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build what changed in the dbt project beside the lake, and compare it with what is published.

    Of the lake (CHIMERA_LAKE_ROOT) everything is read in place, nothing is written. The exit code
    is 1 where a model can't be built or a gate refuses it.
    """
    from include.chimera.operations.versions.difference_texts import markdown_of
    from include.chimera.operations.versions.preview import preview as build

    found = build(base, hours)
    if comment:
        comment.write_text(markdown_of(found))
    if as_json:
        print_json({**asdict(found), "is_good": found.is_good})
    else:
        _show(found)
    raise typer.Exit(0 if found.is_good else 1)


def _show(found: Preview) -> None:
    from include.chimera.operations.versions import difference_texts as texts

    console = make_console()
    console.print(printable(texts.heading_of(found)))
    if found.tables:
        grid = Table()
        for name in texts.HEADINGS:
            is_text = name in ("table", "gate")
            grid.add_column(name, justify="left" if is_text else "right", overflow="fold")
        for table in found.tables:
            grid.add_row(*map(printable, texts.cells_of(table)))
        console.print(grid)
    for table in found.tables:
        notes = [*texts.notes_on(table), *filter(None, [table.message])]
        if notes:
            console.print("\n  ".join(map(printable, [table.table, *notes])))
    if removed := texts.removed_line(found):
        console.print(printable(removed))
