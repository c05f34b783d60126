"""Partition values: every reader finds the same rows, whatever the type and the strategy."""

from __future__ import annotations

from unittest import mock

import polars as pl
import pyarrow as pa
import pytest
from deltalake import QueryBuilder
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

from include.chimera.errors import ContractError, LakeError, StorageAwayError
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store.places import folder_of
from tests.integration.lake.conftest import TABLE

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("versions")]

KINDS = {
    "varchar": ["'a b'", "'ü/日本=%20'", "e'it''s\\n\"'", "' '", "null", "'..'"],
    "tinyint": ["-2", "9", "10", "null"],
    "integer": ["-2", "9", "10", "null"],
    "bigint": ["9223372036854775807", "-9223372036854775808", "9", "10", "null"],
    "decimal(38, 3)": ["-1", "0.005", "9", "10", "99999999999999999999999999999999999", "null"],
    "double": ["-1.5", "9", "10", "1e300", "1e-300", "0.1", "null"],
    "float": ["0.1", "9", "10"],
    "boolean": ["true", "false", "null"],
    "date": ["'2026-01-01'", "'0001-01-01'", "'9999-12-31'", "null"],
    "timestamp": ["'2026-01-01'", "'1960-02-29 23:59:59.000001'", "null"],
    "timestamptz": ["'2026-01-01'", "'1960-02-29 23:59:59.000001+05:30'", "null"],
}
STRATEGIES = {
    "all": {},
    "append": {},
    "merge": {"keys": ("id",)},
    "delete+insert": {"keys": ("id",)},
    "delete+insert by partition": {"keys": ("part",)},
    "merge by partition": {"keys": ("id", "part")},
    "microbatch": {"event_time": "seen_at", "begin": "2026-01-01", "end": "2026-01-02"},
}


def batch(kind: str, values: list[str], seen: str) -> str:
    rows = ", ".join(f"({number}, cast({value} as {kind}))" for number, value in enumerate(values))
    return f"select id, part, timestamp '{seen}' as seen_at from (values {rows}) t(id, part)"


def by_every_reader(process) -> list[tuple]:
    """Return the table's rows, which deltalake, DuckDB and polars have to agree on."""
    table = open_table(TABLE)
    query = QueryBuilder().register("model", table).execute("select id, part, seen_at from model")
    expected = process().rows(f"select id, part, seen_at from {TABLE} order by id, seen_at")
    found = pa.table(query.read_all()).to_pylist()
    theirs = sorted((tuple(row.values()) for row in found), key=lambda row: (row[0], row[2]))
    frame = pl.read_delta(folder_of(TABLE)).select("id", "part", "seen_at")
    assert theirs == expected
    dataset = table.to_pyarrow_table(columns=["id", "part", "seen_at"]).to_pylist()
    assert (
        sorted((tuple(row.values()) for row in dataset), key=lambda row: (row[0], row[2]))
        == expected
    )
    assert frame.sort("id", "seen_at").rows() == expected
    return expected


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_type_reads_back_by_every_reader(process, kind, strategy):
    """Two builds: the second meets each partition, null's too, that the first one made."""
    first = batch(kind, KINDS[kind], "2026-01-01")
    process().build(first, partition_by=("part",))
    whole = by_every_reader(process)
    assert [row[:2] for row in whole] == process().rows(f"select id, part from ({first})")
    second = batch(kind, KINDS[kind], "2026-01-01 01:00")
    how = {"how": STRATEGIES[strategy]} if strategy != "all" else {}
    process().build(second, strategy.partition(" ")[0], **how)
    came = process().rows(second)
    kept = {
        "append": whole,
        # As in SQL, null equals nothing.
        "merge by partition": [row for row in whole if row[1] is None],
        "delete+insert by partition": [row for row in whole if row[1] is None],
    }.get(strategy, [])
    assert by_every_reader(process) == sorted(came + kept, key=lambda row: (row[0], row[2]))


REFUSED = {
    "an empty text": ("varchar", "''"),
    "a text that folders take for null": ("varchar", "'NULL'"),
    "Hive's name of null": ("varchar", "'__HIVE_DEFAULT_PARTITION__'"),
    "a text longer than a folder's name": ("varchar", "repeat('ü', 100)"),
    "no number": ("double", "'nan'"),
    "no end": ("double", "'-inf'"),
    "a second zero": ("double", "'-0.0'"),
    "a fraction below zero": ("decimal(10,2)", "-1.50"),
    "a fraction just below zero": ("decimal(38,20)", "-1e-20"),
    "a day without end": ("date", "'infinity'"),
    "a day before all years": ("date", "'0001-01-01 (BC)'"),
    "a moment without end": ("timestamp", "'infinity'"),
    "a moment of a zone without end": ("timestamptz", "'-infinity'"),
    "bytes": ("blob", "'a'::blob"),
    "a list": ("integer[]", "[1]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_readers_would_take_for_something_else_is_refused(process, case):
    """Before the commit, naming the column but not the value; the table stays unchanged."""
    kind, value = REFUSED[case]
    with pytest.raises(ContractError, match=r"part\b") as refused:
        process().build(batch(kind, [value], "2026-01-01"), partition_by=("part",))
    assert "üü" not in str(refused.value)
    assert open_table(TABLE) is None


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "all"])
def test_a_later_value_that_is_refused_leaves_the_table(process, strategy):
    process().build(batch("varchar", ["'a'"], "2026-01-01"), partition_by=("part",))
    with pytest.raises(ContractError, match="column part"):
        process().build(
            batch("varchar", ["''"], "2026-01-01"),
            strategy.partition(" ")[0],
            how=STRATEGIES[strategy],
        )
    assert [row[:2] for row in by_every_reader(process)] == [(0, "a")]
    assert open_table(TABLE).version() == 0


@pytest.mark.parametrize("keys", ["id", "part", "id part"])
@pytest.mark.parametrize("strategy", ["append", "merge", "delete+insert"])
def test_a_value_too_long_for_a_folder_is_told_by_its_column(process, strategy, keys):
    """Whether it is found while rows are written, or earlier, when partitions are chosen."""
    process().build(batch("varchar", ["'a'"], "2026-01-01"), partition_by=("part",))
    long = batch("varchar", ["repeat('ü', 100)"], "2026-01-01")
    told = r"at most 200 bytes; came a longer one\. Where: column part\."
    with pytest.raises(ContractError, match=told):
        process().build(long, strategy, how={"keys": tuple(keys.split())})


@pytest.mark.parametrize("strategy", ["all", "append"])
def test_a_partition_column_needs_another_beside_it(process, strategy):
    """Files lack the partition column, and DuckDB can't write a file without columns."""
    with pytest.raises(
        ContractError, match=r"came part alone\. Where: model dev\.model\. Next: add"
    ):
        process().build("select 1 as part", strategy, partition_by=("part",))
    assert open_table(TABLE) is None


def test_a_partition_column_is_taken_as_the_model_writes_it(process):
    """Named without regard to case, as DuckDB names it; a name that is none is refused."""
    process().build("select 1 as id, 'a' as region", partition_by=("REGION",))
    assert open_table(TABLE).metadata().partition_columns == ["region"]
    with pytest.raises(ContractError, match="regions, no column"):
        process().build("select 1 as id, 'a' as region", partition_by=("regions",))
    assert process().rows() == [(1, "a")]


def test_windows_are_hours_or_days_of_their_own_columns(process):
    """Any other column's values are no hours: nothing would ever be stored again."""
    query = "select 'acme' as provider_id, 1 as value"
    process().build(query, partition_by=("provider_id",))
    with pytest.raises(ContractError, match="provider_id"):
        process().build(query, "window", partition_by=("provider_id",))


@pytest.mark.usefixtures("damaged")
def test_a_full_refresh_repairs_a_table_that_nobody_can_open(process):
    """One value that delta-rs can't parse, as another writer may commit it, and no open works."""
    query = "select {} as id, timestamptz '2026-01-01' as part"
    process().build(query.format(1), partition_by=("part",))
    table = open_table(TABLE)
    add = AddAction("part=x/a.parquet", 1, {"part": "2026-01-01 00:00:00+00"}, 1, True, "{}")
    with pytest.raises(DeltaError, match="parse"):  # told only once it is committed
        table.create_write_transaction([add], "append", table.schema(), ["part"])
    with pytest.raises(LakeError):
        process().build(query.format(2), partition_by=("part",))
    process().build(query.format(2), partition_by=("part",), is_full_refresh=True)
    assert process().rows(f"select id from {TABLE}") == [(2,)]


def test_a_full_refresh_keeps_a_table_that_is_away(process, lake):
    """Only what nobody can read is dropped, not what can't be reached now."""
    process().build("select 1 as id")
    opening = mock.patch("include.chimera.lake.dbt_plugin.session.open_table", side_effect=away())
    with opening, pytest.raises(StorageAwayError):
        process().build("select 2 as id", is_full_refresh=True)
    assert process().rows() == [(1,)]
    assert (lake / "dev" / "model" / "_delta_log").is_dir()


def away() -> StorageAwayError:
    return StorageAwayError("an answer", "none", "the store", "wait")
