"""A model in a DAG run: staged, visible to its own process, committed only by its gate."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from include.chimera.errors import ContractError
from include.chimera.lake.delta.lineage import Plan
from include.chimera.lake.delta.partitions import Whole
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.publish.model_builds import commit_build
from include.chimera.lake.staged.manifests import Build, load_manifest, save
from include.chimera.relation import Relation
from include.chimera.window import Run, Window

pytestmark = pytest.mark.integration

RUN = Run("run", Window.of_hour(datetime(2026, 1, 1, tzinfo=UTC)))


def test_staged_table_is_seen_by_its_process_and_by_others_after_the_gate(process):
    one = process()
    one.session.run = RUN
    one.build(
        "select 1 as id, 'x' as v",
        required=("id",),
        checks={"positive": "id > 0"},
        comments={"id": "the key"},
        description="one row",
        properties={"delta.logRetentionDuration": "interval 7 days"},
    )
    assert one.rows() == [(1, "x")]
    assert open_table("dev.model") is None
    commit_build(load_manifest(RUN, "dev.model"), RUN)
    assert process().rows() == [(1, "x")]
    table = open_table("dev.model")
    assert table.metadata().description == "one row"
    assert table.metadata().configuration["delta.constraints.positive"] == "id > 0"
    assert table.metadata().configuration["delta.logRetentionDuration"] == "interval 7 days"
    assert (table.schema().fields[0].nullable, table.schema().fields[0].metadata) == (
        False,
        {"comment": "the key"},
    )


@pytest.mark.usefixtures("lake")
def test_a_build_with_parents_is_found_as_it_was_staged():
    """Its plan names relations; the commit needs none of them."""
    arrived = {Relation("bronze", "models"): frozenset({"20260101T00"})}
    plan = Plan(3, {"bronze.models": 7}, frozenset({"20260101T00"}), arrived)
    build = Build("dev.model", [], "{}", [], Whole(), plan, "invocation")
    save(RUN, build)
    assert load_manifest(RUN, "dev.model") == replace(
        build, plan=Plan(3, {"bronze.models": 7}, None)
    )


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ({"required": ("id",)}, "1 rows break not null on id"),
        ({"checks": {"positive": "v > 0"}}, "1 rows break check positive"),
    ],
)
def test_rows_that_break_a_constraint_leave_the_table_and_no_file(
    process, lake, constraint, message
):
    one = process()
    one.build("select 1 as id, 1 as v")
    files = set(lake.rglob("*.parquet"))
    with pytest.raises(ContractError, match=message):
        one.build("select null::integer as id, -1 as v", **constraint)
    assert set(lake.rglob("*.parquet")) == files
    assert process().rows() == [(1, 1)]


@pytest.mark.parametrize(
    "kind",
    ["integer", "varchar[]", "struct(a integer)", "map(varchar, integer)", "date[][]", "blob"],
)
def test_null_is_refused_whatever_the_columns_type(process, kind):
    """A list, a struct and a map have no null count in statistics: unknown, not zero."""
    one = process()
    with pytest.raises(ContractError, match="2 rows break not null on v"):
        one.build(f"select cast(null as {kind}) as v, 1 as id from range(2)", required=("v",))
    one.build(f"select * from (select cast(null as {kind}) as v) where false", required=("v",))


def test_required_column_that_is_not_there_is_told(process):
    """A field of a struct is not a column, and must not be taken for one without nulls."""
    with pytest.raises(ContractError, match=r"required columns s\.a"):
        process().build("select {'a': null::integer} as s", required=("s.a",))


def test_later_batches_meet_the_constraints_that_the_table_knows(process):
    one = process()
    one.build("select 1 as id", required=("id",), checks={"positive": "id > 0"})
    with pytest.raises(ContractError, match="not null on id"):
        one.build("select null::integer as id", "append")
    with pytest.raises(ContractError, match="check positive"):
        process().build("select -1 as id", "append")
