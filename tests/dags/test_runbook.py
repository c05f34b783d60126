"""Airflow's own parser and ours take each of their commands as the runbook writes it."""

from __future__ import annotations

import re
import shlex

import pytest
from airflow.cli.cli_parser import get_parser
from typer.main import get_command

from include.chimera.cli.app import app
from include.chimera.errors import CLI
from include.chimera.paths import PROJECT

_STAND_INS = {
    "<hour>": "2026-03-01T09:00:00+00:00",
    "<date>": "2026-03-01",
    "<n>": "1",
    "…": "2026-03-01",
}
_MENTIONS = {"airflow …", "airflow backfill create", f"{CLI} …", f"{CLI} <command> --help"}


def commands(program: str) -> list[str]:
    """Return a program's commands, of blocks and tables, with something where a reader fills in."""
    text = (PROJECT / "docs/runbook.md").read_text().replace("\\\n", "")
    name = re.escape(program)
    blocks, quoted = rf"^({name} .+)$", rf"`({name} [^`]+)`"
    found = re.findall(blocks, text, re.MULTILINE) + re.findall(quoted, text)
    commands = sorted({*found} - _MENTIONS)
    for name, value in _STAND_INS.items():
        commands = [command.replace(name, value) for command in commands]
    return [re.sub(r"<(\w+)>", r"\1", command) for command in commands]


@pytest.mark.parametrize("command", commands("airflow"))
def test_a_command_of_the_runbook_is_one_of_airflows(command: str) -> None:
    get_parser().parse_args(shlex.split(command, comments=True)[1:])


@pytest.mark.parametrize("command", commands(CLI))
def test_a_command_of_the_runbook_is_one_of_ours(command: str) -> None:
    _, *words = shlex.split(command, comments=True)
    found = get_command(app)
    while subcommands := getattr(found, "commands", None):
        found = subcommands[words.pop(0)]
    found.make_context(CLI, words)


def test_the_runbook_clears_a_run_that_was_triggered_by_hand() -> None:
    """`tasks clear` selects by logical dates, which such a run has none of: it clears nothing."""
    assert any("dags clear" in command and "--run-id" in command for command in commands("airflow"))
