"""What all commands share: an example in the help, `--json`, errors in four parts."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any

import typer

from include.chimera.errors import CLI, ChimeraError
from include.chimera.observe.terminal import echo

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead, one value a line.")]


def example(words: str) -> str:
    """Return the end of a command's help."""
    return f"Example: {CLI} {words}"


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever JSON can say
    """Print a value, or a dataclass, as one line of JSON; moments in ISO 8601."""
    told = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    echo(json.dumps(told, default=lambda moment: moment.isoformat()))


def show_error(error: ChimeraError) -> None:
    """Print an error on standard error: its class, its four parts, and what it came from."""
    cause = error.__cause__
    parts = {
        "Error": type(error).__name__.removesuffix("Error"),
        "Expected": error.expected,
        "Came": error.came,
        "Where": error.where,
        # Of an error of others the class alone: its text may hold a row.
        "Cause": type(cause).__name__ if cause else "",
        "Next": error.remedy,
    }
    for name, text in parts.items():
        if text:
            echo(f"{name + ':':<9} {text}", err=True)
