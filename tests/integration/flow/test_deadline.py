"""The deadline in Airflow's own database, while the DAG is edited."""

import pytest

from tests.integration.flow.programs import told_by

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stored(postgres, tmp_path_factory):
    """Edit the DAG in each way, with a run after each edit; return the runs' deadlines."""
    home = tmp_path_factory.mktemp("airflow")
    with told_by(
        "editor",
        postgres,
        home,
        home / "dags",
        AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL="0",
    ) as told:
        yield told


@pytest.fixture(scope="module")
def edited(stored):
    """Return the deadline of the run after each edit."""
    return stored["edits"]


def test_a_run_has_its_deadline_whatever_was_edited_before_it(edited) -> None:
    """Airflow 3.3.0 creates none for a version whose deadline's definition is unchanged."""
    assert {name for name, run in edited.items() if run["seconds"] != [600.0]} == set()


def test_a_version_names_only_deadlines_that_are_there(edited) -> None:
    """Else a run's success ends in an error of the scheduler."""
    assert {name for name, run in edited.items() if not run["is_whole"]} == set()


def test_a_dag_that_is_as_before_makes_no_version(edited) -> None:
    """The deadline changes with the DAG, and only with it."""
    versions = {name: run["version"] for name, run in edited.items()}
    assert versions == {
        "first": 1,
        "nothing": 1,
        "description": 2,
        "model added": 3,
        "schedule": 4,
        "two edits, no run between": 5,
        "back to an earlier text": 6,
        "file renamed": 7,
        "backfill": 7,
    }


def test_a_run_that_begins_without_its_deadline_is_noted(stored) -> None:
    """As if Airflow had lost the record; other runs are not reported."""
    assert {name for name, run in stored["edits"].items() if run["notes"]} == set()
    assert stored["lost"]["seconds"] == []
    (note,) = stored["lost"]["notes"]
    assert "manual__lost of chimera_etl_hourly has no deadline" in note
