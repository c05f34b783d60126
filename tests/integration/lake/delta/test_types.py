"""Types on their way into the lake and back, through three readers; no value changes silently."""

from __future__ import annotations

import json

import polars as pl
import pytest
from deltalake import DeltaTable

from include.chimera.errors import ContractError
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store.places import folder_of

pytestmark = pytest.mark.integration

KEPT = {
    "tiny": ("-7::tinyint", "byte"),
    "small": ("-7::smallint", "short"),
    "whole": ("-7::integer", "integer"),
    "big": ("9007199254740993::bigint", "long"),
    "single": ("1.5::float", "float"),
    "double": ("0.1::double", "double"),
    "money": ("1234567890123456.789::decimal(19,3)", "decimal(19,3)"),
    "wide": ("12345678901234567890123456789.123456789::decimal(38,9)", "decimal(38,9)"),
    "flag": ("true", "boolean"),
    "word": ("'ü''x'", "string"),
    "day": ("date '2026-02-28'", "date"),
    "plain": ("timestamp '2026-01-01 00:00:00.123456'", "timestamp_ntz"),
    "zoned": ("timestamptz '2026-01-01 00:00:00.123456+02'", "timestamp"),
    "bytes": ("'\\xAA\\x00'::blob", "binary"),
}
WIDENED = {
    "u8": ("255::utinyint", "short", 255),
    "u32": ("4294967295::uinteger", "long", 4294967295),
    "u64": ("18446744073709551615::ubigint", "decimal(20,0)", 18446744073709551615),
    "huge": ("sum(9223372036854775807::bigint) over ()", "decimal(38,0)", 9223372036854775807),
    "id": ("'6f1ec5ac-2c6f-4f0c-9b0c-0a1f3b6e9d7c'::uuid", "string",
           "6f1ec5ac-2c6f-4f0c-9b0c-0a1f3b6e9d7c"),
    "document": ("""'{"a": [1]}'::json""", "string", '{"a": [1]}'),
    "mood": ("'ok'::enum('ok', 'bad')", "string", "ok"),
}  # fmt: skip
NESTED = (
    "[1, null, 3] as numbers, {'a': 1, 'b': {'c': 'x', 'd': [1.5::decimal(5,2)]}} as object, "
    "map {'k': 1::bigint, 'l': null} as pairs, [[1], []] as lists, [1, 2]::integer[2] as fixed"
)


def kinds():
    return {
        field["name"]: field["type"]
        for field in json.loads(open_table("dev.model").schema().to_json())["fields"]
    }


@pytest.mark.parametrize("partitioned", [False, True])
def test_values_of_kept_types_read_back_equal_by_three_readers(process, partitioned):
    columns = ", ".join(f"{text} as {name}" for name, (text, _) in KEPT.items())
    one = process()
    query = f"select 'p' as part, {columns}, {NESTED} union all by name select 'p' as part"
    one.build(query, partition_by=("part",) if partitioned else ())
    assert {name: kinds()[name] for name in KEPT} == {
        name: kind for name, (_, kind) in KEPT.items()
    }
    names = ["part", *KEPT]
    expected = one.rows(f"select {', '.join(names)} from incoming order by all")
    folder = folder_of("dev.model")
    assert process().rows(f"select {', '.join(names)} from dev.model order by all") == expected
    for rows in (DeltaTable(folder).to_pyarrow_table().to_pylist(),
                 pl.read_delta(folder).to_dicts()):  # fmt: skip
        found = [tuple(row[name] for name in names) for row in rows]
        assert sorted(found, key=lambda row: row[1] is None) == expected


def test_nested_values_read_back_equal(process):
    one = process()
    one.build(f"select {NESTED}")
    fresh = process()
    assert fresh.rows() == one.rows("select * replace (fixed::integer[] as fixed) from incoming")
    row = pl.read_delta(folder_of("dev.model")).to_dicts()[0]
    assert row["numbers"] == [1, None, 3]
    assert row["object"]["b"]["c"] == "x"


@pytest.mark.parametrize("name", WIDENED)
def test_types_that_delta_lacks_are_widened_and_keep_their_value(process, name):
    text, kind, value = WIDENED[name]
    one = process()
    one.build(f"select {text} as {name}")
    assert kinds() == {name: kind}
    assert process().rows() == [(value,)]


@pytest.mark.parametrize("text", ["interval 1 day", "time '10:00'", "'101'::bit"])
def test_types_without_a_counterpart_are_refused_by_name(process, text):
    with pytest.raises(ContractError, match="column odd of type"):
        process().build(f"select {text} as odd")
    assert open_table("dev.model") is None


def test_nanoseconds_are_kept_or_refused(process):
    one = process()
    one.build("select '2026-01-01 00:00:00.123456'::timestamp_ns as t")
    stamp = "'2026-01-01 00:00:00.123456789'::timestamp_ns"
    told = r"came one with nanoseconds\. Where: column t\. Next: cast the column"
    for value in (stamp, f"[{stamp}]", f"{{'a': {stamp}}}"):
        for strategy in ("all", "append"):
            with pytest.raises(ContractError, match=told):
                one.build(f"select {value} as t", strategy, table="dev.other")


@pytest.mark.parametrize("strategy", ["append", "merge"])
@pytest.mark.parametrize("text", ["1.9", "'7'", "300::bigint"])
def test_incremental_value_that_its_column_would_change_is_refused(process, strategy, text):
    """1.9 never becomes 1, and '7' is not 7."""
    one = process()
    one.build("select 1::tinyint as id")
    with pytest.raises(ContractError, match="values of id"):
        one.build(f"select {text} as id", strategy, how={"keys": ("id",)})
    assert process().rows() == [(1,)]


def test_incremental_value_that_its_column_keeps_is_stored(process):
    one = process()
    one.build("select 1::bigint as id, 1.5::decimal(10,2) as price")
    one.build("select 2::integer as id, 2.25::decimal(20,4) as price", "append")
    assert [tuple(map(float, row)) for row in process().rows()] == [(1, 1.5), (2, 2.25)]


def test_empty_result_and_all_null_columns_keep_their_types(process):
    one = process()
    declared = {"a": "decimal(9,2)", "b": "timestamptz", "c": "varchar[]", "d": "date"}
    columns = ", ".join(f"cast(null as {kind}) as {name}" for name, kind in declared.items())
    described = "select column_name, column_type from (describe dev.model)"
    for where in ("where false", ""):
        one.build(f"select {columns} {where}")
        assert dict(process().rows(described)) == {
            "a": "DECIMAL(9,2)",
            "b": "TIMESTAMP WITH TIME ZONE",
            "c": "VARCHAR[]",
            "d": "DATE",
        }
    assert process().rows() == [(None,) * 4]


@pytest.mark.parametrize("mode", ["append_new_columns", "sync_all_columns"])
def test_column_of_plain_timestamps_can_be_added_later(process, mode):
    one = process()
    one.build("select 1 as id")
    one.build("select 2 as id, timestamp '2026-01-01' as at_", "append", on_schema_change=mode)
    rows = process().rows("select id, at_ is null from dev.model order by id")
    assert rows == [(1, True), (2, False)]


def test_changed_type_is_synced_only_without_loss(process):
    one = process()
    one.build("select 1.5::double as v, 1 as gone")
    with pytest.raises(ContractError, match="values of v"):
        one.build("select 2 as v", "append", on_schema_change="sync_all_columns")
    one.build("select 'x' as v", "append", on_schema_change="sync_all_columns")
    assert process().rows() == [("1.5",), ("x",)]
