"""What the commands print: a console that takes nothing in the data as markup or as a command."""

from __future__ import annotations

from typing import IO

import typer
from rich.console import Console

from include.chimera.errors import visible

_PLAIN_WIDTH = 120
_LINES = "\n\t"


def printable(text: object) -> str:
    r"""Return a text without control and formatting characters: `\u001b` stands where ESC was.

    Data may hold what a terminal obeys (colours, titles, a cursor that moves up) or what turns the
    order of letters around; line ends and tabs stay.
    """
    return visible(str(text), _LINES)


def echo(text: object, *, err: bool = False) -> None:
    """Print a text that may come from data."""
    typer.echo(printable(text), err=err)


def make_console(file: IO[str] | None = None) -> Console:
    """Return a console on a file (None: standard output).

    One that is no terminal has a fixed width and writes no control codes.
    """
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console
