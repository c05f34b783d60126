"""Any name that dbt accepts is the same relation in all processes and runs, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from include.chimera.lake.delta.tables import lake_tables, open_table
from include.chimera.lake.store.duckdb_sessions import connect, quote
from include.chimera.lake.store.places import folder_of
from include.chimera.relation import Relation

pytestmark = pytest.mark.integration

NAMES = ["select", "events.v2", "_views", "Events", "ключ", "a%41b", "it's", "a/b c"]
MORE = ["order", "_hidden", "日本", "ñandú", "100%", "two words", "x=1", "%%", "$1", "1st", "ß",
        "[a]*?", "~6f~", "#a"]  # fmt: skip
# Strategy, and the ids after two runs that bring 1 and 2.
STRATEGIES = {
    "append": ("incremental", "incremental_strategy='append'", [1, 2]),
    "merge": ("incremental", "incremental_strategy='merge', unique_key='id'", [1, 2]),
    "delete": ("incremental", "incremental_strategy='delete+insert', unique_key='id'", [1, 2]),
    "table": ("table", "", [2]),
    "view": ("view", "", [2]),
}


def model(kind: str, options: str, alias: str, query: str) -> str:
    text = json.dumps(alias, ensure_ascii=False)
    config = f"materialized={kind!r}, alias={text}" + (f", {options}" if options else "")
    return f"{{{{ config({config}) }}}} {query}"


def ids(rows, relation: str) -> list[int]:
    return [found for (found,) in rows(f"select id from {relation} order by id")]


def quoted(name: str) -> str:
    return f'dev."{name}"'


@pytest.mark.long
@pytest.mark.parametrize("names", [NAMES, MORE])
def test_each_name_works_in_a_second_process_and_a_second_run(project, rows, names):
    """Incrementals keep what they held, each reader opens each table."""
    for number, name in enumerate(names):
        for kind, (materialized, options, _) in STRATEGIES.items():
            project.write(
                f"models/{kind}_{number}.sql",
                model(materialized, options, f"{name} {kind}", "select {{ var('id') }} as id"),
            )
        project.write(
            f"models/alone_{number}.sql",
            model("incremental", "", name, f"select id from {{{{ ref('append_{number}') }}}}"),
        )
    for number in (1, 2):
        project.dbt("run", "--vars", json.dumps({"id": number}))
    for name in names:
        for kind, (_, _, wanted) in STRATEGIES.items():
            assert ids(rows, quoted(f"{name} {kind}")) == wanted, (name, kind)
        assert ids(rows, quoted(name)) == [1, 1, 2], name
        folder = folder_of(Relation("dev", name))
        assert open_table(Relation("dev", name)).version() >= 1
        assert pl.read_delta(folder).height == 3
        with connect() as connection:
            found = connection.execute(f"select count(*) from delta_scan({quote(folder)})")
            assert found.fetchone() == (3,)


def test_seeds_and_snapshots_of_such_names_keep_their_rows(project, rows):
    project.write("seeds/words.csv", "id,v\n1,a\n")
    project.write("seeds/words.yml", "seeds: [{name: words, config: {alias: 'wörter.v2 100%'}}]")
    project.write(
        "snapshots/kept.yml",
        "snapshots: [{name: kept, relation: ref('words'), config: {alias: 'été.v2', "
        "unique_key: id, strategy: check, check_cols: [v]}}]",
    )
    project.dbt("build")
    project.write("seeds/words.csv", "id,v\n1,b\n2,b\n")
    project.dbt("build")
    assert ids(rows, quoted("wörter.v2 100%")) == [1, 2]
    assert ids(rows, quoted("été.v2")) == [1, 1, 2]


def test_an_alias_that_changes_its_case_is_the_same_table(project, rows):
    """The second process finds the folder that the first one made, and adds to it."""
    for number, alias in enumerate(("Events", "EVENTS", "events"), 1):
        project.write("models/e.sql", model("incremental", "", alias, f"select {number} as id"))
        project.dbt("run")
    assert ids(rows, "dev.events") == [1, 2, 3]
    assert lake_tables() == [Relation("dev", "events")]


def test_two_models_of_one_name_in_two_cases_are_refused_by_name(project):
    for name, alias in (("one", "Events"), ("two", "events")):
        project.write(f"models/{name}.sql", model("table", "", alias, "select 1 as id"))
    failed = project.fail("run")
    assert "Expected one model of each name" in failed
    assert "model.small.one" in failed
    assert lake_tables() == []


def test_names_that_cannot_work_are_refused_before_anything_is_written(project):
    refused = ['a"b', "é" * 60, "a\u200bb"]
    for kind in ("incremental", "table", "view"):
        for number, alias in enumerate(refused):
            query = "select 1 as id"
            project.write(f"models/{kind}_{number}.sql", model(kind, "", kind + alias, query))
    failed = project.fail("run")
    assert failed.count("Next: set another alias") == 3
    assert failed.count("Next: give the model a") == 6
    assert not list(project.folder.glob("lake/**/*.*"))


def test_a_table_whose_log_lost_its_first_entries_is_not_taken_for_none(project, rows):
    """A table that can't be opened still exists: no build replaces it."""
    project.write("models/e.sql", model("incremental", "", "e", "select 1 as id"))
    for _ in range(2):
        project.dbt("run")
    log = Path(folder_of("dev.e")) / "_delta_log"
    (log / f"{0:020d}.json").rename(project.folder / "kept.json")
    held = sorted(log.iterdir())
    project.fail("run")
    assert sorted(log.iterdir()) == held
    (project.folder / "kept.json").rename(log / f"{0:020d}.json")
    assert ids(rows, "dev.e") == [1, 1]
