"""A corpus of secrets and personal data, sent through a source: where it may and may not end up.

It may stand in the rows themselves and in the payload of a dead letter. It may not stand in logs,
in what a task returns (XCom), in errors (which become messages), in the dead letters' other
columns, in commits, records, quality history or reports.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import duckdb
import pytest

from include.chimera.contracts import API_LOGS, DEAD_LETTERS
from include.chimera.errors import ChimeraError, GateFailedError
from include.chimera.flow.tasks import _counts
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.ops_tables.ledger import close_run
from include.chimera.lake.staged.records import to_json
from include.chimera.lake.store.duckdb_sessions import connect, reach_object_store
from include.chimera.operations.quality_report import write_report
from include.chimera.operations.run_metrics import run_facts
from include.chimera.quality.gx.data_docs import build_docs
from include.chimera.quality.quality_results import record_quality
from include.chimera.settings import get_object_store, get_settings
from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import log_root
from include.chimera.sources.postgres.sessions import snapshot
from tests.corpus import CORPUS
from tests.integration.quality.gating import RUN, gated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a state folder of its own."""
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(tmp_path / "state"))
    get_settings.cache_clear()
    yield tmp_path / "state"
    get_settings.cache_clear()


def write_logs(root: Path, good: int) -> None:
    """Write good lines, broken lines and lines of wrong types, full of the corpus."""
    start = RUN.window.start
    lines = [
        json.dumps(
            {
                "timestamp": start.replace(minute=number % 60).isoformat(),
                "level": "info",
                "method": "GET",
                "path": "/v1/models",
                "status_code": 200,
                "duration_ms": 1.5,
                "request_id": f"request-{number}",
                "user_id": "user",
                "response_bytes": 10,
                "message": CORPUS[number % len(CORPUS)],
            }
        )
        for number in range(good)
    ]
    for text in CORPUS:
        lines += [f"{{not json {text}", json.dumps({"timestamp": text, "message": text})]
        moment = start.isoformat()
        lines.append(json.dumps({"timestamp": moment, "status_code": text, "user_id": [text]}))
    path = root / f"dt={start:%Y-%m-%d}" / f"hour={start:%H}" / "api.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("good", [10_000, 100], ids=["gate passes", "gate fails"])
def test_corpus_stays_in_rows_and_payloads(
    tmp_path: Path, state: Path, caplog: pytest.LogCaptureFixture, capfd, good: int
) -> None:
    caplog.set_level(logging.DEBUG, "include.chimera")
    write_logs(tmp_path / "logs", good)
    batch = extract_api_logs(log_root(str(tmp_path / "logs")), RUN)
    assert batch.rows_unparsed == 3 * len(CORPUS)
    said = [str(_counts(batch))]
    with gated(RUN, API_LOGS.name) as (gate, verdict):
        said.append(str(verdict.describe_dict()))
        try:
            gate.publish()
        except GateFailedError as error:
            said.append(str(error))
        else:
            assert good == 10_000
    record_quality(RUN)
    build_docs()
    write_report(RUN)
    said += [to_json(close_run(RUN)), str(run_facts(RUN))]
    written = capfd.readouterr()
    said += [caplog.text, written.out, written.err]
    for text in CORPUS:
        assert not [each for each in said if text in each], text
    _check_files(state)
    _check_letters()


def _check_files(state: Path) -> None:
    for path in (path for path in state.rglob("*") if path.is_file()):
        if path.suffix == ".parquet":
            continue  # rows; for the dead letters see below
        content = path.read_bytes().decode(errors="replace")
        # Delta keeps the bounds of the rows' own columns: that is part of the rows.
        if "_delta_log" in path.parts or path.name == "batch.json":
            content = "".join(
                json.dumps({k: v for k, v in entry.items() if k != "add"})
                for entry in map(
                    json.loads, content.splitlines() if path.name != "batch.json" else []
                )
            )
        assert not [text for text in CORPUS if text in content], path


def _check_letters() -> None:
    table = open_table(DEAD_LETTERS.name)
    if table is None:
        return
    with connect() as connection:
        query = f"select * exclude (payload) from ({scan(table, DEAD_LETTERS.name)})"
        rows = str(connection.execute(query).fetchall())
        payloads = connection.execute(
            f"select payload from ({scan(table, DEAD_LETTERS.name)})"
        ).fetchall()
    assert len(payloads) == 3 * len(CORPUS)
    assert not [text for text in CORPUS if text in rows]
    assert all(any(text.encode() in payload for (payload,) in payloads) for text in CORPUS)


def test_connection_strings_stay_out_of_errors_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    """A source that can't be reached is named without its login."""
    password = "hunter" + "2canary"  # pragma: allowlist secret
    uri = f"postgresql://reader:{password}@127.0.0.1:1/app"
    with pytest.raises(ChimeraError) as error, snapshot(uri):
        pass
    assert password not in str(error.value) + repr(error.value.__cause__) + caplog.text


def test_object_store_keys_stay_out_of_duckdb_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a session knows of the object store can't be read back from it."""
    secret = "canary" + "4711secret"  # pragma: allowlist secret
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    get_object_store.cache_clear()
    with duckdb.connect() as connection:
        reach_object_store(connection)
        assert secret not in str(connection.execute("from duckdb_secrets()").fetchall())
        with pytest.raises(duckdb.Error) as error:
            connection.execute("from read_csv('s3://no-such-bucket.invalid/x.csv', nope = 1)")
        assert secret not in str(error.value)
    assert secret not in repr(get_object_store())
    get_object_store.cache_clear()
