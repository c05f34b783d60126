"""A model recomputes what the commits touched that it has not consumed yet."""

from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from include.chimera.lake.delta.commits import Change, commit
from include.chimera.lake.delta.lineage import (
    Footprint,
    changes_since,
    consumed_mark,
    identity_of,
    metadata_of,
    plan,
)
from include.chimera.lake.delta.tables import contract_table, drop_table
from tests.builders import HOUR, run_of

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

PARENT, OWN, FLAT = "bronze.generations", "bronze.evaluations", "bronze.models"


def touch(hours: list[str] | None, name: str = PARENT, **marks: int) -> DeltaTable:
    """Commit only the metadata that hours changed (None: any hour may have)."""
    change = Change(marks=marks, metadata=metadata_of(hours, hours))
    table, _ = commit(name, lambda: contract_table(name), lambda _: change)
    return table


def consume(parent: DeltaTable, name: str = PARENT) -> DeltaTable:
    """Commit that the model has consumed a parent as it is loaded."""
    return touch([], OWN, **{consumed_mark(identity_of(name, parent)): parent.version()})


def test_changes_are_those_after_a_version_up_to_the_loaded_one() -> None:
    """Another run commits while a build reads."""
    first, second, third = touch(["a"]), touch(["b"]), touch(["c"])
    assert changes_since(third, first.version()).touched == {"b", "c"}
    assert changes_since(second, first.version()).touched == {"b"}
    assert changes_since(third, third.version()) == Footprint()
    assert changes_since(second, third.version()) == Footprint()


@pytest.mark.parametrize("overtaken_by", [0, 1, 5])
def test_a_build_recomputes_what_it_consumed_however_far_it_was_overtaken(
    overtaken_by: int,
) -> None:
    """Exactly the hours of the commits that it marks as consumed."""
    own = consume(touch(["a"]))
    read = touch(["b"])
    for number in range(overtaken_by):
        touch([f"later{number}"])
    planned = plan(own, {PARENT: read}, None)
    assert planned.consumed == {identity_of(PARENT, read): read.version()}
    assert planned.touched == {"b"}


def test_a_commit_that_could_be_anything_outweighs_the_others() -> None:
    """A whole table was replaced among commits that name their hours."""
    first = touch(["a"])
    touch(None)
    assert changes_since(touch(["b"]), first.version()) == Footprint(None, None)


def test_a_cut_history_could_have_held_anything(lake: Path) -> None:
    """A model that lags behind the log's retention recomputes everything."""
    first = touch(["a"])
    touch(["b"])
    table = touch(["c"])
    table.create_checkpoint()
    for version in range(table.version()):
        (lake / PARENT.replace(".", "/") / "_delta_log" / f"{version:020}.json").unlink()
    again = DeltaTable(table.table_uri)
    assert changes_since(again, first.version()) == Footprint(None, None)
    assert changes_since(again, again.version() - 1).touched == {"c"}


def test_a_new_model_recomputes_everything() -> None:
    """It has nothing yet; a parent without a table is read as empty."""
    parent = touch(["a"])
    planned = plan(None, {PARENT: parent, FLAT: None}, run_of())
    assert (planned.base_version, planned.touched) == (None, None)
    assert planned.consumed == {identity_of(PARENT, parent): parent.version()}


def test_a_model_recomputes_its_window_and_what_came_since() -> None:
    """A standalone build has no window."""
    own = consume(touch(["a"]))
    parent = touch(["b"])
    assert plan(own, {PARENT: parent}, None).touched == {"b"}
    assert plan(own, {PARENT: parent}, run_of(HOUR + timedelta(hours=2))).touched == {
        "b",
        "20260101T07",
    }


def test_a_parent_that_was_never_consumed_could_have_changed_anything() -> None:
    """A join was added to the model."""
    own = consume(touch(None, FLAT), FLAT)
    assert plan(own, {PARENT: touch(["a"])}, None).touched is None


def test_a_parent_that_had_no_table_could_have_changed_anything() -> None:
    """It appeared after the model was built."""
    own = touch([], OWN)
    assert plan(own, {PARENT: None}, None).touched == frozenset()
    assert plan(own, {PARENT: touch(["a"])}, None).touched is None


@pytest.mark.parametrize("commits", [1, 5])
def test_a_parent_made_anew_could_have_changed_anything(commits: int) -> None:
    """After a drop, the new table's versions are different, even where the numbers are equal."""
    touch(["a"])
    own = consume(touch(["b"]))
    drop_table(PARENT)
    fresh = [touch(["c"]) for _ in range(commits)][-1]
    planned = plan(own, {PARENT: fresh}, run_of())
    assert (planned.touched, planned.arrived) == (None, {PARENT: None})
    again = consume(fresh)
    assert plan(again, {PARENT: touch(["d"])}, None).touched == {"d"}


def test_parents_without_hours_touch_none() -> None:
    """A new price in the table of models does not rebuild history."""
    own = consume(touch(None, FLAT), FLAT)
    planned = plan(own, {FLAT: touch(None, FLAT)}, None)
    assert (planned.touched, planned.arrived) == (frozenset(), {})


def test_marks_outlive_checkpoints() -> None:
    """Progress is in the log for good."""
    parent = touch(["a"])
    own = consume(parent)
    own.create_checkpoint()
    again = DeltaTable(own.table_uri)
    assert plan(again, {PARENT: parent}, None).touched == frozenset()
