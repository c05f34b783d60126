"""The simulation of the protocol: it finds nothing wrong in the product, and planted bugs in it.

It replaces calls in its whole process, so each test starts one of its own.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from include.chimera.paths import PROJECT
from tests.integration.spark.servers import sail
from tests.simulation.planted import BUGS
from tests.simulation.schedule import THEMES, Schedule, schedule_of, shrunk

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def simulate(*given: str) -> tuple[int, str]:
    """Return the exit code and output of `python -m tests.simulation`."""
    command = (sys.executable, "-m", "tests.simulation", *given)
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)  # noqa: S603
    return done.returncode, done.stdout + done.stderr


def test_nothing_is_wrong_after_any_schedule() -> None:
    code, told = simulate("--seeds", "40")
    assert code == 0, told
    assert "40 schedules" in told


def test_delta_rs_alone_gives_the_same() -> None:
    """The quick way of reading and writing logs is no other than delta-rs' own."""
    code, told = simulate("--seeds", "5", "--delta-rs")
    assert code == 0, told


@pytest.mark.long
def test_a_third_engine_reads_the_same(tmp_path: Path) -> None:
    """Sail, as Spark, agrees with deltalake, DuckDB and the auditor in every value."""
    with sail(tmp_path, {}) as server:
        code, told = simulate("--seeds", "40", "--spark", server.remote)
    assert code == 0, told


def test_a_seed_plays_the_same_each_time() -> None:
    (_, one), (_, two) = (simulate("--seed", "11", "--theme", "lines") for _ in range(2))
    assert "gate bronze.api_logs" in one
    assert one == two


def test_bugs_are_found() -> None:
    """One that each kind of schedule finds at once; all of them take longer."""
    quick = ("compared the other way", "the oldest attempt", "both succeed")
    code, told = simulate("--seeds", "40", "--bugs", *quick)
    assert code == 0, told


@pytest.mark.long
def test_every_bug_is_found() -> None:
    code, told = simulate("--seeds", "400", "--bugs")
    assert code == 0, told
    assert f"{len(BUGS)} of {len(BUGS)} bugs found" in told


@pytest.mark.long
@pytest.mark.parametrize("theme", THEMES)
def test_nothing_is_wrong_after_many_schedules(theme: str) -> None:
    code, told = simulate("--seeds", "300", "--theme", theme, "--processes", "2")
    assert code == 0, told


def test_a_schedule_is_shrunk_to_what_it_needs() -> None:
    """Whatever the failure, what it does not need goes."""
    large = schedule_of(3, "models")
    small = shrunk(large, lambda other: "models" in other.actors)
    assert (small.actors, small.switches, small.faults) == (("models",), {}, ())
    assert Schedule.from_json(large.to_json()) == large
