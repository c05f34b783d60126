"""The lake in an S3-compatible store: the same code, another root."""

from __future__ import annotations

import pytest

from include.chimera.errors import ConfigurationError, LogDamagedError
from include.chimera.lake.dbt_plugin.views import View
from include.chimera.lake.delta.tables import NO_TABLE, open_table, table_names
from include.chimera.lake.store import storage
from include.chimera.relation import Relation
from tests.integration.object_store import failing, forget_settings, lake_in

pytestmark = pytest.mark.integration


@pytest.fixture
def lake(tmp_path, monkeypatch, object_store):
    """Put the lake into a bucket of a server on this machine."""
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
    with lake_in(object_store, monkeypatch) as root:
        yield root


def test_each_kind_of_change_reads_back_in_another_process(process):
    one = process()
    one.build("select i as id, i % 3 as part from range(9) r(i)", partition_by=("part",))
    one.build("select 4 as id, 1 as part union all select 99, 1", "merge", how={"keys": ("id",)})
    one.build("select 100 as id, 5 as part", "append")
    one.build("select 0 as id, 0 as part", "delete+insert", how={"keys": ("part",)})
    assert list(table_names()) == ["dev.model"]
    expected = [(0, 0), (1, 1), (2, 2), (4, 1), (5, 2), (7, 1), (8, 2), (99, 1), (100, 5)]
    assert process().rows() == expected


def test_writer_that_lost_tries_again(process):
    process().build("select 0 as id")
    one, two = process(), process()
    for writer in (one, two):
        writer.build("select max(id) + 1 as id from dev.model", "append", reads_itself=True)
    assert process().rows() == [(0,), (1,), (2,)]


def test_views_renamed_and_dropped_tables(process):
    one = process()
    one.build("select 1 as id")
    one.session.save_view(Relation("dev", "seen"), View("select id + 1 as next from dev.model"))
    assert process().rows("from dev.seen") == [(2,)]
    one.session.rename(Relation("dev", "model"), Relation("dev", "other"))
    assert process().rows("from dev.other") == [(1,)]
    one.session.drop(Relation("dev", "other"))
    assert open_table("dev.other") is None
    assert list(table_names()) == []


def test_a_table_whose_log_is_lost_is_not_begun_anew(process, lake):
    """A store has no empty folders, so what is left looks like a first build's files."""
    process().build("select 1 as id")
    assert not any(file.place.endswith(NO_TABLE) for file in storage.walk(f"{lake}/dev"))
    storage.delete_folder(f"{lake}/dev/model/_delta_log")
    for strategy in ("append", "all"):
        with pytest.raises(LogDamagedError, match="nothing is left of it"):
            process().build("select 2 as id", strategy, may_replace=False)
    process().build("select 2 as id", is_full_refresh=True)
    assert process().rows() == [(2,)]


def test_of_two_writers_of_one_object_one_is_refused(lake, tmp_path):
    for folder in (lake, str(tmp_path)):
        storage.try_conditional_put(folder)
        assert storage.files(folder) == []


def test_a_store_that_takes_no_condition_is_named(object_store, tmp_path, monkeypatch):
    """It would let one commit overwrite another."""
    orders = tmp_path / "orders"
    orders.write_text("plain put 1000 PUT")
    with failing(object_store, orders) as proxy:
        variables = proxy.new_lake()
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        forget_settings()
        with pytest.raises(ConfigurationError, match=r"3 of three writers.*If-None-Match"):
            storage.try_conditional_put(variables["CHIMERA_LAKE_ROOT"])
    monkeypatch.undo()
    forget_settings()


def test_a_bucket_that_does_not_exist_is_no_empty_lake(lake, monkeypatch):
    """pyarrow lists it like a folder without files; an empty bucket really is one."""
    assert list(table_names()) == []
    monkeypatch.setenv("CHIMERA_LAKE_ROOT", lake.replace("lake", "laek", 1))
    forget_settings()
    for look in (table_names, lambda: open_table("dev.model")):
        with pytest.raises(ConfigurationError, match="none of the name laek"):
            look()
