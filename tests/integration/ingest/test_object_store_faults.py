"""A lake in an object store that is overloaded, broken, or denies access."""

import pytest

from include.chimera.errors import StorageAwayError, StorageRefusedError
from include.chimera.lake.delta.tables import open_table
from tests.integration.ingest.pipeline import (
    GENERATION,
    at,
    extract,
    ingest,
    insert,
    publish,
    rows,
    run_of,
)
from tests.integration.object_store import failing, forget_settings

pytestmark = pytest.mark.integration
FOREVER = 1_000_000


@pytest.fixture
def store(tmp_path, monkeypatch, configure, object_store):
    """Put the lake into a bucket; return a function that lets the next requests fail."""
    orders = tmp_path / "orders"
    with failing(object_store, orders) as proxy:
        for name, value in proxy.new_lake().items():
            monkeypatch.setenv(name, value)
        configure(state_dir=tmp_path)
        forget_settings()

        def order(status, code, count, pattern=""):
            orders.write_text(f"{status} {code} {count} {pattern}")

        yield order
    forget_settings()


@pytest.mark.parametrize("answer", [(500, "InternalError"), (503, "SlowDown")])
def test_a_store_that_fails_for_a_moment_is_asked_again(server, uri, store, answer):
    insert(server, 1, at(0))
    ingest(uri, run_of(0))
    insert(server, 2, at(1))
    store(*answer, 1)
    extract(uri, run_of(1))
    store(*answer, 1)
    assert publish(run_of(1)).rows_published == 1
    assert len(rows()) == 2


def test_expired_credentials_are_refused_and_leave_the_table_as_it_was(server, uri, store):
    """No retry brings a new key; with one the task goes on. Nothing half written is visible."""
    insert(server, 1, at(0))
    ingest(uri, run_of(0))
    insert(server, 2, at(1))
    store(403, "ExpiredToken", 1000)
    with pytest.raises(StorageRefusedError, match=r"HTTP 403.*the key"):
        extract(uri, run_of(1))
    store(403, "ExpiredToken", 0)
    extract(uri, run_of(1))
    store(403, "ExpiredToken", 1000)
    with pytest.raises(StorageRefusedError, match=r"HTTP 403.*the key"):
        publish(run_of(1))
    store(403, "ExpiredToken", 0)
    assert len(rows()) == 1
    assert publish(run_of(1)).rows_published == 1
    assert len(rows()) == 2


def test_a_store_that_fails_throughout_is_an_outage_and_nothing_is_published(server, uri, store):
    """The task gives up for its retry; the table, the watermark and the staged files stay."""
    insert(server, 1, at(0))
    ingest(uri, run_of(0))
    insert(server, 2, at(1))
    store(500, "InternalError", FOREVER)
    with pytest.raises(StorageAwayError):
        extract(uri, run_of(1))
    store(500, "InternalError", 0)
    extract(uri, run_of(1))
    version = open_table(GENERATION).version()
    store(500, "InternalError", FOREVER)
    with pytest.raises(StorageAwayError):
        publish(run_of(1))
    store(500, "InternalError", 0)
    assert open_table(GENERATION).version() == version
    assert publish(run_of(1)).rows_published == 1
    assert len(rows()) == 2


@pytest.mark.parametrize("entry", ["_delta_log/.*json", "batch.json"])
def test_a_write_whose_answer_is_lost_counts_once(server, uri, store, entry, tmp_path):
    """The client asks again, and meets its own commit as if it were another writer's."""
    insert(server, 1, at(0))
    ingest(uri, run_of(0))
    insert(server, 2, at(1))
    store("lost", "answer", 1, f"PUT .*{entry}")
    extract(uri, run_of(1))
    assert publish(run_of(1)).rows_published == 1
    assert (tmp_path / "orders").read_text().startswith("lost answer 0 ")
    assert len(rows()) == 2
    assert publish(run_of(1)).rows_published == 1
    assert len(rows()) == 2
