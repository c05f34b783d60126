"""Incremental strategies on the lake: which rows change, which files stay, who wins a race."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from include.chimera.errors import ConfigurationError, ContractError
from include.chimera.lake.delta.tables import open_table
from include.chimera.window import Run, Window

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("versions")]

HOURS = "select * from (values (1, 'a', 'h1'), (2, 'b', 'h1'), (3, 'c', 'h2')) t(id, v, hour)"
BY_HOUR = {"partition_by": ("hour",)}


def paths(table="dev.model"):
    return set(open_table(table).file_uris())


def log(lake, version):
    file = lake / "dev" / "model" / "_delta_log" / f"{version:020d}.json"
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_merge_updates_and_inserts_and_leaves_other_partitions_files(process):
    one = process()
    one.build(HOURS, **BY_HOUR)
    before = {path for path in paths() if "hour=h2" in path}
    one.build(
        "select * from (values (2, 'B', 'h1'), (4, 'd', 'h3')) t(id, v, hour)",
        "merge",
        how={"keys": ("id",)},
    )
    assert one.rows() == [(1, "a", "h1"), (2, "B", "h1"), (3, "c", "h2"), (4, "d", "h3")]
    assert before <= paths()


def test_each_strategy_makes_one_commit_that_names_its_model(process, lake):
    one = process()
    one.build(HOURS, **BY_HOUR)
    for number, strategy in enumerate(("append", "merge", "delete+insert"), start=1):
        one.build(
            "select 3 as id, 'x' as v, 'h2' as hour" if strategy != "append" else
            "select 9 as id, 'x' as v, 'h9' as hour",
            strategy,
            how={"keys": ("id",)},
            model="model.test.model",
            invocation_id="i1",
        )  # fmt: skip
        assert open_table("dev.model").version() == number
        info = next(line["commitInfo"] for line in log(lake, number) if "commitInfo" in line)
        assert (info["model"], info["invocation_id"]) == ("model.test.model", "i1")
        assert {"run_id", "correlation_id"} <= set(info)


def test_merge_of_new_keys_rewrites_nothing(process, lake):
    one = process()
    one.build(HOURS)
    one.build("select 9 as id, 'z' as v, 'h1' as hour", "merge", how={"keys": ("id",)})
    assert not any("remove" in line for line in log(lake, 1))


def test_merge_updates_only_the_columns_it_is_told(process):
    one = process()
    one.build(HOURS)
    one.build(
        "select 1 as id, 'X' as v, 'hX' as hour",
        "merge",
        how={"keys": ("id",), "update": ("v",)},
    )
    one.build(
        "select 2 as id, 'X' as v, 'hX' as hour",
        "merge",
        how={"keys": ("id",), "exclude": ("v",)},
    )
    assert one.rows() == [(1, "X", "h1"), (2, "b", "hX"), (3, "c", "h2")]


def test_null_keys_never_match(process):
    one = process()
    one.build("select cast(null as integer) as id, 'old' as v")
    one.build("select cast(null as integer) as id, 'new' as v", "merge", how={"keys": ("id",)})
    assert one.rows() == [(None, "new"), (None, "old")]


def test_merge_refuses_two_rows_for_one_key(process):
    one = process()
    one.build(HOURS)
    with pytest.raises(ContractError, match="1 keys of the table with more than one new row"):
        one.build(f"{HOURS} union all {HOURS} limit 4", "merge", how={"keys": ("id",)})
    assert len(one.rows()) == 3


def test_predicates_limit_what_is_deleted(process):
    one = process()
    one.build(HOURS)
    one.build(
        "select id, 'new' as v, hour from dev.model",
        "delete+insert",
        how={"keys": ("id",), "predicates": ("id <> 2",)},
    )
    assert [row[:2] for row in one.rows()] == [(1, "new"), (2, "b"), (2, "new"), (3, "new")]


def test_batch_replaces_its_time_and_no_other(process):
    one = process()
    first = "timestamp '2026-01-01 00:00'"
    one.build(f"select {first} + interval (i) minute as moment, 0 as v from range(180) r(i)")
    one.build(
        "select timestamp '2026-01-01 01:30' as moment, 1 as v",
        "microbatch",
        how={"event_time": "moment", "begin": "2026-01-01 01:00:00", "end": "2026-01-01 02:00:00"},
    )
    assert one.rows("select count(*), sum(v) from dev.model") == [(121, 1)]


@pytest.mark.parametrize("strategy", ["append", "merge", "delete+insert"])
def test_writer_that_lost_computes_its_rows_again(process, strategy):
    """Both read the table before either writes; the rows depend on what the table holds."""
    one, two = process(), process()
    one.build("select 0 as id")
    two = process()
    nexts = "select max(id) + 1 as id from dev.model"
    for writer in (one, two):
        writer.build(nexts, strategy, how={"keys": ("id",)}, reads_itself=True)
    assert process().rows() == [(0,), (1,), (2,)]


def test_two_writers_of_one_hour_leave_no_duplicate(process):
    process().build(HOURS, **BY_HOUR)
    one, two = process(), process()
    for writer in (one, two):
        writer.build(
            "select 3 as id, 'new' as v, 'h2' as hour", "delete+insert", how={"keys": ("id",)}
        )
    assert process().rows() == [(1, "a", "h1"), (2, "b", "h1"), (3, "new", "h2")]


@pytest.mark.parametrize("value", ["a b", "a/b=c%", "ü", "it's"])
def test_partition_values_with_special_characters(process, value):
    one = process()
    text = value.replace("'", "''")
    one.build(f"select 1 as id, '{text}' as p", partition_by=("p",))
    one.build(f"select 1 as id, '{text}' as p", "delete+insert", how={"keys": ("id",)})
    assert process().rows() == [(1, value)]


def test_rows_of_a_null_partition_can_change(process):
    one = process()
    one.build("select * from (values (1, null), (2, 'x')) t(id, p)", partition_by=("p",))
    one.build("select 1 as id, 'y' as p", "delete+insert", how={"keys": ("id",)})
    assert process().rows() == [(1, "y"), (2, "x")]


@pytest.mark.parametrize("asked", [(), ("v",)])
def test_other_partitions_that_an_incremental_build_leaves_out_are_told(process, caplog, asked):
    process().build(HOURS, **BY_HOUR)
    process().build("select 4 as id, 'd' as v, 'h2' as hour", "append", partition_by=("HOUR",))
    assert "partitioned" not in caplog.text
    process().build("select 5 as id, 'e' as v, 'h3' as hour", "append", partition_by=asked)
    assert "dev.model stays partitioned by hour" in caplog.text
    assert open_table("dev.model").metadata().partition_columns == ["hour"]


def test_new_partitioning_needs_no_new_name(process):
    one = process()
    one.build(HOURS)
    one.build(HOURS, **BY_HOUR)
    assert open_table("dev.model").metadata().partition_columns == ["hour"]
    assert len(process().rows()) == 3


def test_in_a_dag_run_only_what_can_wait_for_its_gate_is_built(process):
    one = process()
    one.build(HOURS)
    one.session.run = Run("run", Window.of_hour(datetime(2026, 1, 1, tzinfo=UTC)))
    with pytest.raises(ConfigurationError, match="replace_window"):
        one.build(HOURS, "append")


def test_a_merge_leaves_a_column_alone_that_the_model_no_longer_gives(process):
    """As dbt-duckdb does; nulls in its place would be a loss without a word."""
    one = process()
    one.build(HOURS, **BY_HOUR)
    one.build(
        "select 1 as id, 'h1' as hour, true as is_late union all select 4, 'h1', false",
        "merge",
        how={"keys": ("id",)},
        on_schema_change="append_new_columns",
    )
    assert one.rows() == [
        (1, "a", "h1", True),
        (2, "b", "h1", None),
        (3, "c", "h2", None),
        (4, None, "h1", False),
    ]


@pytest.mark.parametrize(
    ("strategy", "how"),
    [
        ("merge", {"keys": ("id",)}),
        ("delete+insert", {"keys": ("hour", "id")}),
        ("merge", {"keys": ("hour",), "update": ("id",)}),
        ("microbatch", {"event_time": "id", "begin": "1", "end": "2"}),
    ],
)
def test_a_model_that_no_longer_gives_what_steers_its_change_is_refused(process, strategy, how):
    """A key that is null in all rows matches none: each build would add them once more."""
    one = process()
    one.build(HOURS, **BY_HOUR)
    with pytest.raises(ContractError, match="columns of the model too; came id"):
        one.build(
            "select 'z' as v, 'h9' as hour",
            strategy,
            how=how,
            on_schema_change="append_new_columns",
        )
    assert len(one.rows()) == 3


@pytest.mark.parametrize("strategy", ["append", "merge", "delete+insert"])
def test_a_partition_column_is_not_synced_away(process, strategy):
    one = process()
    one.build(HOURS, **BY_HOUR)
    with pytest.raises(ContractError, match=r"no hour, under .*--full-refresh"):
        one.build(
            "select 4 as id, 'd' as v",
            strategy,
            how={"keys": ("id",)},
            on_schema_change="sync_all_columns",
            **BY_HOUR,
        )
    assert len(one.rows()) == 3


def test_microbatch_takes_no_text_for_moments(process):
    """As text, T comes after a blank: an hour of 2026-01-01T05 would be empty."""
    one = process()
    one.build("select 1 as id, '2026-01-01T05:00:00' as seen_at")
    bounds = {"begin": "2026-01-01 05:00:00+00:00", "end": "2026-01-01 06:00:00+00:00"}
    with pytest.raises(ContractError, match="a date or a timestamp; came seen_at, text"):
        one.build(
            "select 1 as id, '2026-01-01T05:00:00' as seen_at",
            "microbatch",
            how={"event_time": "SEEN_AT", **bounds},
        )
    assert one.rows() == [(1, "2026-01-01T05:00:00")]
