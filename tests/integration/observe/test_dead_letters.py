"""The commands about dead letters: what they show, refuse and record."""

from __future__ import annotations

import os
import pwd
import re
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from include.chimera.cli.app import app
from include.chimera.contracts import DEAD_LETTERS
from include.chimera.errors import ConfigurationError, ControlRefusedError
from include.chimera.lake.dead_letters.erasure import about
from include.chimera.lake.dead_letters.letters import append_letters, letters_query
from include.chimera.lake.delta.tables import open_table
from tests.builders import LABEL, run_of

if TYPE_CHECKING:
    from click.testing import Result
    from duckdb import DuckDBPyConnection

pytestmark = pytest.mark.integration
ME = pwd.getpwuid(os.getuid()).pw_name


def command(*words: str, answer: str = "") -> Result:
    return CliRunner().invoke(app, ["dead-letters", *words], input=answer)


@pytest.fixture
def letters(lake: object, connection: DuckDBPyConnection) -> list[str]:
    """Sixty letters; each payload names its own user, holds a blank and escapes for a terminal."""
    del lake
    records = (
        "select 'malformed_line' as reason, cast(i as varchar) as coordinates, encode(format("
        "'user-{} ', i) || chr(27) || '[2J' || chr(10) || 'more') as payload, "
        f"'{LABEL}' as _window_hour from range(100, 160) t (i)"
    )
    run = run_of()
    append_letters(connection, letters_query(records, "bronze.api_logs", "extract", run), run)
    found = command("list", "--limit", "99").output
    return sorted(set(re.findall(r"\b[0-9a-f]{32}\b", found)))


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_an_id_is_never_cut(
    letters: list[str], columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`show`, `replay` and `park` take the ids that `list` shows, whatever the terminal's width."""
    assert len(letters) == 60
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    shown = command("list", "--limit", "99").output
    assert all(letter in shown for letter in letters)
    if columns != "40":  # too narrow for anything else
        assert all(line[-1] in "┓┃┩│┘" for line in shown.splitlines()), "nothing else is cut"


@pytest.mark.parametrize("words", [("--state", "wating"), ("--source", "bronze.apilogs")])
def test_a_mistyped_state_or_source_does_not_look_like_no_letters(words: tuple[str, str]) -> None:
    """An empty list and exit code 0 would look like good news to a person on call."""
    assert command("list", *words).exit_code == 2
    if words[0] == "--source":
        assert command("replay", *words).exit_code == 2


def test_an_id_of_no_letter_is_refused(letters: list[str]) -> None:
    """No output, or a replay of none, would look as if the letter were empty or done."""
    for words in (("show", letters[0][:8]), ("replay", "--id", "f" * 32)):
        found = command(*words)
        assert found.exit_code == 1
        assert isinstance(found.exception, ConfigurationError)
        assert "dead-letters list" in found.exception.remedy


def test_the_list_says_how_many_it_leaves_out(letters: list[str]) -> None:
    """Fifty of sixty rows alone look like all there is."""
    shown = command("list").output
    assert sum(letter in shown for letter in letters) == 50
    assert "10 older ones: --limit 60" in shown
    assert "older" not in command("list", "--limit", "60").output


def test_a_payload_and_a_reason_cannot_steer_the_terminal(letters: list[str]) -> None:
    """Escapes are shown as text; brackets in a reason do not break the list."""
    assert command("park", letters[0], "--reason", "[/x] \x1b[31m").exit_code == 0
    for shown in (command("show", letters[0]).output, command("list", "--state", "parked").output):
        assert "\x1b" not in shown
        assert "[/x]" in shown
    assert r"\u001b[2J" in command("show", letters[0]).output


def test_who_parked_and_who_erased_is_recorded(letters: list[str]) -> None:
    """In the commit's metadata, beside the reason."""
    command("park", letters[0], "--reason", "never good")
    assert open_table(DEAD_LETTERS.name).history(1)[0]["parked_by"] == ME
    assert command("erase", "user-101", "--reason", "request 7", "--yes").exit_code == 0
    erased, parked = open_table(DEAD_LETTERS.name).history(2)
    assert (erased["erased_by"], erased["reason"], erased["payloads_erased"]) == (
        ME, "request 7", "1",
    )  # fmt: skip
    assert parked["parked_by"] == ME


@pytest.mark.parametrize("subject", ["", " ", "\t\n", "a", " ab ", "---------", "...", "x-y"])
def test_a_subject_that_names_nobody_is_refused(letters: list[str], subject: str) -> None:
    """An empty text, e.g. an unset shell variable, or a blank would match everybody's payload."""
    version = open_table(DEAD_LETTERS.name).version()
    found = command("erase", "--reason", "request 7", "--yes", "--", subject)
    assert isinstance(found.exception, ConfigurationError)
    assert "nothing was erased" in found.exception.where
    with pytest.raises(ConfigurationError):
        about(subject)
    assert open_table(DEAD_LETTERS.name).version() == version
    assert letters


def test_an_erasure_shows_its_count_and_asks(letters: list[str]) -> None:
    """No answer, "no" or an empty reason erases nothing; without matches it does not ask."""
    version = open_table(DEAD_LETTERS.name).version()
    for answer in ("", "n\n"):
        asked = command("erase", "user-102", "--reason", "request 7", answer=answer)
        assert "1 payloads of dead letters name it" in asked.output
        assert asked.exit_code == 1
    refused = command("erase", "user-102", "--reason", " ", "--yes")
    assert isinstance(refused.exception, ControlRefusedError)
    assert command("erase", "nobody-at-all", "--reason", "request 7").exit_code == 0
    assert open_table(DEAD_LETTERS.name).version() == version
    assert command("erase", "user-102", "--reason", "request 7", answer="y\n").exit_code == 0
    assert open_table(DEAD_LETTERS.name).version() > version
    assert "payload         None" in "".join(command("show", letter).output for letter in letters)
