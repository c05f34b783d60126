"""Columns are compared as in DuckDB and Delta, without case, even if the name is a keyword."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from include.chimera.errors import ContractError
from include.chimera.lake.dbt_plugin.strategies import Rewrite
from include.chimera.lake.delta.tables import lake_tables, open_table

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

CASE = {"append": {}, "merge": {"keys": ("ID",)}, "delete+insert": {"keys": ('"Id"',)}}


@pytest.mark.parametrize("strategy", CASE)
@pytest.mark.parametrize("mode", ["append_new_columns", "sync_all_columns", "fail", "ignore"])
@pytest.mark.parametrize("names", [("HeyThere", "heythere", ()), ("Été", "éTÉ", ("REGION",))])
def test_two_spellings_are_one_column(store, rows, strategy, mode, names):
    """Both values are in the one column, which stays as the table spells it."""
    one, two, partition_by = names
    how = Rewrite(strategy, **CASE[strategy])
    store("dev.t", f"select 1 as id, 10 as \"{one}\", 'a' as region", partition_by=partition_by,
          comments={one: "as asked"}, required=(one,))  # fmt: skip
    store("dev.t", f"select 2 as Id, 20 as \"{two}\", 'a' as Region", how, on_schema_change=mode,
          comments={two: "as asked"}, required=(two,))  # fmt: skip
    assert [field.name for field in open_table("dev.t").schema().fields] == ["id", one, "region"]
    assert rows(f'select id, "{one}" from dev.t order by id') == [(1, 10), (2, 20)]


@pytest.mark.parametrize("mode", ["append_new_columns", "sync_all_columns"])
def test_a_type_changes_under_another_spelling(store, rows, mode):
    store("dev.t", "select 1 as id, 10::bigint as V")
    how = Rewrite("merge", ("id",))
    store("dev.t", "select 2 as id, 20::integer as v, 3 as W", how, on_schema_change=mode)
    assert [field.name for field in open_table("dev.t").schema().fields] == ["id", "V", "W"]
    assert rows("from dev.t order by id") == [(1, 10, None), (2, 20, 3)]


WORDS = ["order", "select", "group", "it's", 'q"t', "ключ", "100%", "_x", "1st"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("is_quoted", [False, True])
@pytest.mark.parametrize("strategy", ["merge", "delete+insert"])
def test_any_word_is_a_key_a_partition_and_an_updated_column(
    store, rows, strategy, word, is_quoted
):
    """Unquoted as in dbt-duckdb, and quoted."""
    name = '"' + word.replace('"', '""') + '"'
    given = name if is_quoted else word
    store("dev.k", f"select i as {name}, i as v, i as w from range(3) r(i)")
    how = {"update": (given, "V")} if strategy == "merge" else {}
    changed = f"select 2::bigint as {name}, 20::bigint as v, 20::bigint as w"
    store("dev.k", changed, Rewrite(strategy, (given,), **how))
    wanted = (2, 20, 2) if strategy == "merge" else (2, 20, 20)
    assert rows(f"from dev.k order by {name}") == [(0, 0, 0), (1, 1, 1), wanted]
    if word.isascii() and word.replace("_", "").isalnum():
        store("dev.p", f"select i as {name}, i as v from range(2) r(i)", partition_by=(given,))
        store("dev.p", f"select 1::bigint as {name}, 9::bigint as v", Rewrite(strategy, (given,)))
        assert open_table("dev.p").metadata().partition_columns == [word]
        assert rows(f"select {name}, v from dev.p order by all") == [(0, 0), (1, 9)]


@pytest.mark.parametrize(
    ("option", "how"),
    [
        ("unique_key", {"keys": ("nowhere",)}),
        ("merge_update_columns", {"keys": ("id",), "update": ("nowhere",)}),
        ("merge_exclude_columns", {"keys": ("id",), "exclude": ("nowhere",)}),
    ],
)
def test_a_column_that_is_not_there_is_refused_before_a_commit(store, option, how):
    store("dev.t", "select 1 as id")
    with pytest.raises(ContractError, match=f"{option} to name columns of the table; came nowhere"):
        store("dev.t", "select 2 as id", Rewrite("merge", **how))
    assert open_table("dev.t").version() == 0


def test_a_partition_column_that_is_not_there_is_refused_before_anything_is_written(store):
    with pytest.raises(ContractError, match="came nowhere, no column"):
        store("dev.t", "select 1 as id", partition_by=("nowhere",))
    assert lake_tables() == []


@pytest.mark.parametrize("name", ["ключ", "ñ", "it's", "100%", "x$y", 'q"t'])
@pytest.mark.parametrize("how", [None, Rewrite("append")])
def test_a_partition_column_whose_folders_a_reader_does_not_know_is_refused(store, name, how):
    """The name is encoded in the folder's path, and polars does not decode it."""
    column = '"' + name.replace('"', '""') + '"'
    with pytest.raises(ContractError, match="partition_by a column named by"):
        store("dev.t", f"select 1 as {column}, 2 as v", how or "all", partition_by=(name,))
    assert lake_tables() == []


@pytest.mark.parametrize("name", ["a b", "a.b", "a,b", "a=b"])
def test_a_column_name_that_readers_stumble_over_is_refused(store, name):
    with pytest.raises(ContractError, match="rename the column"):
        store("dev.t", f'select 1 as "{name}"')
    assert lake_tables() == []


def test_two_columns_that_differ_in_case_only_are_refused(store):
    """DuckDB folds case in ASCII only, readers of Delta in all scripts."""
    with pytest.raises(ContractError, match="came É, é"):
        store("dev.t", 'select 1 as "É", 2 as "é"')


def test_microbatch_takes_a_reserved_word_as_event_time(store, rows):
    times = "timestamptz '2026-01-01 00:00:00+00'"
    store("dev.t", f'select 1 as id, {times} as "order"')
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    store("dev.t", f'select 2 as id, {times} as "Order"',
          Rewrite("microbatch", event_time="ORDER", begin=str(begin), end=str(end)))  # fmt: skip
    assert rows("select id from dev.t") == [(2,)]


@pytest.mark.long
def test_a_project_may_spell_its_columns_in_any_case(project, rows):
    """As `test_two_spellings_are_one_column`, through dbt's own macros, with a snapshot of it."""
    project.write("snapshots/s.yml", "snapshots: [{name: s, relation: ref('t'), config: "
                  "{unique_key: id, strategy: check, check_cols: all}}]")  # fmt: skip
    project.write(
        "models/t.yml",
        "models: [{name: t, columns: [{name: HEYTHERE, description: told}]}]",
    )
    config = (
        "{{ config(materialized='incremental', unique_key='ID', partition_by='REGION', "
        "incremental_strategy='merge', on_schema_change='append_new_columns', "
        "merge_update_columns=['HeyTHERE'], persist_docs={'columns': true}) }} "
    )
    for query in (
        "select 1 as id, 10 as \"HeyThere\", 'a' as region",
        "select 2 as id, 20 as heythere, 'a' as Region",
    ):
        project.write("models/t.sql", config + query)
        project.dbt("build")
    project.dbt("build")
    assert rows('select id, "HeyThere" from dev.t order by id') == [(1, 10), (2, 20)]
    assert rows("select id, heythere, dbt_valid_to from dev.s order by id") == [
        (1, 10, None),
        (2, 20, None),
    ]
