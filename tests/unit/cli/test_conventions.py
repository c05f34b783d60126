"""Each command is called in one way, helps with an example, and prints JSON on request."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from include.chimera import __version__
from include.chimera.cli.app import app, main
from include.chimera.cli.conventions import example, show_error
from include.chimera.errors import CLI, ConfigurationError, kinds
from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# They start, stop or make something; what they say is progress. Airflow has its own `--output`.
SILENT = {"up", "down", "airflow", "sample", "sources", "suites", "manifest"}
# Of a whole module: the machinery's own form, which no person types.
MODULE = re.compile(r"-m include\.chimera(?![\w.])")
# The command's name without the path before it; a DAG's or a table's name goes on with `_`.
BARE = re.compile(r"(?:`|^|\$ |: )chimera ([a-z][a-z-]+)", re.MULTILINE)
OWNERS = {"docs/adr/0033-one-file-calls-the-command-line-everywhere.md"}


def leaves(command: object, *path: str) -> Iterator[tuple[str, object]]:
    """Walk the groups down to the commands, each with the words that call it."""
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(path), command
    for name, found in (below or {}).items():
        yield from leaves(found, *path, name)


COMMANDS = dict(leaves(get_command(app)))


def pages() -> list[Path]:
    """Return what people read: pages, and the code whose texts become messages."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - git on the path
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    kinds_of_text = (".md", ".py", ".yml", ".yaml", ".j2", ".json", ".toml", ".example", ".html")
    names = [name for name in listed.stdout.split("\0") if name.endswith(kinds_of_text)]
    return [PROJECT / name for name in names if not name.startswith(("tests/", "benchmarks/"))]


def test_there_are_commands_to_look_at() -> None:
    assert {"gaps", "accept", "dead-letters list", "status"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_an_example_that_parses(name: str) -> None:
    command = COMMANDS[name]
    words = shlex.split(command.epilog.removeprefix("Example: "))
    assert command.epilog == example(command.epilog.removeprefix(f"Example: {CLI} "))
    assert words[: 1 + len(name.split())] == [CLI, *name.split()]
    command.make_context(name, words[1 + len(name.split()) :])


@pytest.mark.parametrize("name", COMMANDS)
def test_what_prints_something_to_read_prints_json_on_request(name: str) -> None:
    flags = [option for option in COMMANDS[name].params if "--json" in option.opts]
    assert bool(flags) is (name not in SILENT)
    assert all(flag.is_flag for flag in flags)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_argument_and_option_says_what_it_is(name: str) -> None:
    assert not [param.name for param in COMMANDS[name].params if not getattr(param, "help", "")]


def test_no_page_or_message_calls_it_in_another_way() -> None:
    known = {name.split()[0] for name in COMMANDS}
    found = [
        f"{page.relative_to(PROJECT)}: {text!r}"
        for page in pages()
        if str(page.relative_to(PROJECT)) not in OWNERS
        for text in [
            *MODULE.findall(page.read_text()),
            *(word for word in BARE.findall(page.read_text()) if word in known),
        ]
        if page.name not in {"__main__.py", "app.py"}  # they say which module it is
    ]
    assert not found


def test_an_error_ends_with_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    told = ConfigurationError(expected="a folder", came="a file", where="/lake", remedy="move it")
    told.__cause__ = OSError("a row's text")
    show_error(told)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Error:    Configuration"
    assert lines[-2:] == ["Cause:    OSError", "Next:     move it"]


def test_remedies_of_classes_name_commands_that_exist() -> None:
    named = [word for kind in kinds() for word in re.findall(rf"{CLI} ([\w-]+)", kind.helps)]
    assert len(named) > 1
    assert set(named) <= {name.split()[0] for name in COMMANDS}


def test_the_file_runs_from_any_folder(tmp_path: Path) -> None:
    """A folder `include` of its own must not come first."""
    (tmp_path / "include").mkdir()
    done = subprocess.run(  # noqa: S603 - our own
        [PROJECT / CLI, "--version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"chimera {__version__}\n"), done.stderr


def test_the_file_says_what_is_missing_without_packages(tmp_path: Path) -> None:
    """A clone before the first `make`, on a machine whose python knows nothing."""
    script, python = tmp_path / "chimera", tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nexit 1\n")
    script.write_bytes((PROJECT / CLI).read_bytes())
    for file in (script, python):
        file.chmod(0o755)
    done = subprocess.run(  # noqa: S603 - our own
        [script, "gaps"],
        env={"PATH": f"{python.parent}:/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Next: make setup" in done.stderr


def test_the_changelog_opens_with_this_version() -> None:
    log = (PROJECT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## (\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d$", log, re.MULTILINE)
    assert releases[0] == __version__
    assert len(releases) == len(set(releases))


def test_main_is_called_as_the_pages_call_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["__main__.py", "gaps", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert f"Usage: {CLI} gaps" in capsys.readouterr().out
