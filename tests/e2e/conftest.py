"""Runs the whole command once per session and hands its facts to the tests."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from include.chimera.local.layout import Layout
from include.chimera.paths import PROJECT
from tests.e2e.statsd import StatsdSink
from tests.versions import Versions

RUN_SECONDS = 1500


@dataclass(frozen=True)
class CommandResult:
    """What `python -m include.chimera run` left behind.

    Args:
        code: Its exit code.
        output: What it wrote to the terminal.
        report: What `--json` wrote; empty if it did not come that far.
        state: The state folder.
        statsd: Lines that Airflow sent to the StatsD server of its settings.
    """

    code: int
    output: str
    report: dict[str, Any]
    state: Path
    statsd: tuple[str, ...] = ()

    @property
    def hours(self) -> list[dict[str, Any]]:
        return self.report["hours"]

    @property
    def lake(self) -> Path:
        return Path(self.report["lake"])


def run_command(state: Path, hours: int, **variables: str) -> CommandResult:
    """Run the command on a state folder and wait for it.

    Args:
        state: The state folder, kept for the next call with the same one.
        hours: How many hours.
        variables: Environment variables beside the inherited ones, such as CHIMERA_TRACES.
    """
    report = Layout.of(state).reports / "run.json"
    report.unlink(missing_ok=True)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CHIMERA_")}  # noqa: TID251  # a child inherits
    done = subprocess.run(  # noqa: S603  # our own command
        [
            *(sys.executable, "-m", "include.chimera", "run", "--hours", str(hours)),
            *("--owner", str(os.getpid())),
        ],
        cwd=PROJECT,
        env={**inherited, "CHIMERA_STATE_DIR": str(state), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    told = json.loads(report.read_text()) if report.exists() else {}
    return CommandResult(done.returncode, done.stdout, told, state)


@pytest.fixture(scope="session")
def written() -> Iterator[Versions]:
    """Look at every version of the lakes that the ring shares, once it has ended."""
    shared = Versions()
    yield shared
    shared.check()


@pytest.fixture(scope="session")
def generated_hour(tmp_path_factory: pytest.TempPathFactory, written: Versions) -> CommandResult:
    """Return one hour of generated data, run from an empty state folder."""
    with StatsdSink() as sink:
        state = tmp_path_factory.mktemp("generated") / "state"
        result = run_command(state, hours=1, **sink.variables())
    assert result.code == 0, result.output
    written.add(result.lake)
    return replace(result, statsd=tuple(sink.lines))


@pytest.fixture(scope="session")
def repeated_hour(generated_hour: CommandResult) -> CommandResult:
    """Return the same hour, run a second time on the same state folder."""
    result = run_command(generated_hour.state, hours=1)
    assert result.code == 0, result.output
    return result


@pytest.fixture(scope="session")
def replayed_hours(
    tmp_path_factory: pytest.TempPathFactory, traces_folder: Path, written: Versions
) -> CommandResult:
    """Return both hours of the real traces, run from an empty state folder."""
    state = tmp_path_factory.mktemp("replayed") / "state"
    result = run_command(state, hours=2, CHIMERA_TRACES=str(traces_folder))
    assert result.code == 0, result.output
    written.add(result.lake)
    return result
