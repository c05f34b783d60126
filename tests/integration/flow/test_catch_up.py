"""Which hours the catch-up runs, with Airflow's own database and an empty lake."""

from datetime import UTC, datetime

import pytest

from include.chimera.paths import PROJECT
from include.chimera.window import HOUR, floor_hour
from tests.integration.flow.programs import told_by

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def looked(postgres, tmp_path_factory):
    """Plant runs and let the catch-up look; six runs may be unfinished, two are."""
    home = tmp_path_factory.mktemp("airflow")
    start = floor_hour(datetime.now(UTC)) - 24 * HOUR
    variables = {"CHIMERA_START_DATE": start.isoformat(), "CHIMERA_CATCH_UP_RUNS": "6"}
    with told_by("missed", postgres, home, PROJECT / "dags", **variables) as told:
        yield told


def test_hours_without_a_run_or_whose_run_was_interrupted_run_oldest_first(looked) -> None:
    """Timed out; without record; without run; interrupted while it was caught up. Four are free."""
    ids, runs = looked["ids"], looked["runs"]["first"]
    expected = [ids[1][0], ids[3][0], ids[4][0], ids[6][1]]
    assert [name for name in sorted(runs) if runs[name] == "queued"] == expected


def test_an_hour_whose_run_failed_at_a_task_is_a_persons(looked) -> None:
    ids, runs = looked["ids"], looked["runs"]["second"]
    assert not set(runs) & {*ids[0], *ids[5][1:]}
    assert runs[ids[5][0]] == "failed"


def test_an_hour_that_was_interrupted_three_times_is_a_persons(looked) -> None:
    """It may be too much for the machine: its timeout was told each time."""
    ids, runs = looked["ids"], looked["runs"]["second"]
    assert [runs[name] for name in ids[8]] == ["failed"] * 3


def test_an_hour_that_a_run_works_on_is_left_to_it(looked) -> None:
    assert not {*looked["ids"][2], *looked["ids"][7]} & set(looked["runs"]["second"])


def test_no_more_runs_than_the_setting_says(looked) -> None:
    """Those of the schedule and of backfills count: they come first."""
    assert looked["runs"]["second"] == looked["runs"]["first"]
    assert looked["ids"][9][0] not in looked["runs"]["second"]


def test_a_paused_pipeline_catches_up_on_nothing(looked) -> None:
    assert set(looked["runs"]["paused"]) == set(looked["runs"]["first"])
