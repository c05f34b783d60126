"""Print to the terminal without treating data as markup or control codes."""

from __future__ import annotations

from typing import IO

import typer
from rich.console import Console

from include.chimera.errors import visible

_PLAIN_WIDTH = 120
_LINES = "\n\t"


def printable(text: object) -> str:
    r"""Escape control and formatting characters in a text, e.g. ESC as `\u001b`.

    Data may contain terminal commands (colours, titles, cursor moves) or characters that reverse
    the order of text. Line ends and tabs stay.
    """
    return visible(str(text), _LINES)


def echo(text: object, *, err: bool = False) -> None:
    """Print a text that may come from data."""
    typer.echo(printable(text), err=err)


def make_console(file: IO[str] | None = None) -> Console:
    """Return a console on a file (None: standard output).

    If that is not a terminal, the console has a fixed width and writes no control codes.
    """
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console
