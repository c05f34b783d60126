"""A table whose whole log is lost is not taken for a new table (docs/adr/0020)."""

from __future__ import annotations

import os
import shutil

import pytest

from include.chimera.errors import LogDamagedError
from include.chimera.lake.delta.tables import NO_TABLE, open_table
from include.chimera.lake.upkeep.orphaned_files import remove_leftovers
from tests.builders import generations, publish, run_of
from tests.integration.lake.conftest import TABLE
from tests.integration.lake.delta.deaths import Died, dying_at

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("damaged")]
ROW = "select 1 as id, '20260101T05' as _window_hour"
BY_HOUR = {"partition_by": ("_window_hour",)}
KEY = {"how": {"keys": ("id",)}}
# How each strategy builds the table.
BUILDS = {"all": {}, "window": BY_HOUR, "append": {}, "merge": KEY, "delete+insert": KEY}


def files(lake) -> list[str]:
    return sorted(str(file) for file in (lake / "dev" / "model").rglob("*") if file.is_file())


def lose_entries(log) -> None:
    for file in log.iterdir():
        file.unlink()


@pytest.mark.parametrize("lose", [lose_entries, shutil.rmtree])
@pytest.mark.parametrize("strategy", BUILDS)
def test_no_strategy_begins_a_table_anew_whose_log_is_lost(process, lake, strategy, lose):
    """Data files alone prove nothing: a killed first build leaves them too, but with a note."""
    process().build(ROW, partition_by=("_window_hour",))
    lose(lake / "dev" / "model" / "_delta_log")
    left = files(lake)
    with pytest.raises(LogDamagedError, match=r"nothing is left of it beside 1 data files.*model"):
        process().build(ROW, strategy, may_replace=False, **BUILDS[strategy])
    assert files(lake) == left
    process().build(ROW, strategy, is_full_refresh=True, **BUILDS[strategy])
    assert process().rows() == [(1, "20260101T05")]


def test_a_source_is_not_published_into_a_table_whose_log_is_lost(connection, lake):
    publish(connection, run_of(), "bronze.generations", generations(3))
    lose_entries(lake / "bronze" / "generations" / "_delta_log")
    with pytest.raises(LogDamagedError, match="nothing is left of it"):
        publish(connection, run_of(), "bronze.generations", generations(3))


def test_the_note_stands_from_before_the_first_file_until_the_first_commit(process, lake):
    note = lake / "dev" / "model" / NO_TABLE
    with dying_at(None) as moments:
        process().build(ROW)
    assert not note.exists()
    assert moments.index("after create_text") < moments.index("before write_files")
    process().build(ROW)
    assert not note.exists()


@pytest.mark.parametrize("strategy", BUILDS)
def test_a_first_build_that_was_killed_is_built_again_by_any_strategy(process, lake, strategy):
    with dying_at(None) as moments:
        process().build(ROW, table="dev.other")
    with pytest.raises(Died), dying_at(moments.index("after write_files")):
        process().build(ROW)
    assert len(files(lake)) == 2
    process().build(ROW, strategy, **BUILDS[strategy])
    assert process().rows() == [(1, "20260101T05")]
    assert not (lake / "dev" / "model" / NO_TABLE).exists()


def test_a_note_that_a_death_left_beside_its_table_is_swept(process, lake):
    """Otherwise, once the table's log is lost, it would look like a first build's leftovers."""
    process().build(ROW)
    note = lake / "dev" / "model" / NO_TABLE
    note.write_text("left")
    assert process().rows() == [(1, "20260101T05")]
    os.utime(note, (0, 0))
    assert [removal.kind for removal in remove_leftovers(dry_run=False)] == ["half_written_files"]
    assert not note.exists()


def test_a_table_whose_dropping_was_killed_is_not_there(process, lake):
    process().build(ROW)
    with pytest.raises(Died), dying_at(2):  # after the note
        process().session.drop(process().session.catalog.names("dev")[0])
    lose_entries(lake / "dev" / "model" / "_delta_log")
    assert open_table(TABLE) is None
    process().build(ROW, may_replace=False)
    assert process().rows() == [(1, "20260101T05")]
