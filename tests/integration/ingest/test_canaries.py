"""A canary in every text of every source, through every kind of failure: where it may be told.

It may stand in rows, in a dead letter's payload, and where a refused row's coordinates name its
key. It may not stand in logs, in what an exception is printed as, in records, reports or messages.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
import pytest

from include.chimera.alerts.causes import Fault
from include.chimera.alerts.messages import Affected, failure
from include.chimera.contracts import EVALUATIONS, GENERATIONS, MODELS
from include.chimera.errors import (
    ChimeraError,
    ConfigurationError,
    ContractError,
    CountError,
    DataFaultError,
    ShrinkError,
    SourceUnavailableError,
    UnexpectedError,
    VerificationError,
)
from include.chimera.flow.foreign_errors import own_words
from include.chimera.lake.ops_tables.ledger import close_run
from include.chimera.lake.publish import verification
from include.chimera.lake.staged.manifests import load_manifest, save
from include.chimera.lake.staged.records import to_json
from include.chimera.operations.quality_report import write_report
from include.chimera.profiles.chosen import intake_of
from include.chimera.profiles.metric_maps import METRICS
from include.chimera.quality.gx.data_docs import build_docs
from include.chimera.quality.quality_results import record_quality
from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import log_root
from include.chimera.sources.postgres.extract import extract_table
from include.chimera.sources.prometheus.extract import extract_provider_metrics
from include.chimera.sources.prometheus.prometheus_api import PrometheusServer
from tests.builders import METRICS_INTAKE
from tests.integration.ingest.pipeline import GENERATION, START, at, run_of
from tests.integration.quality.gating import gated
from tests.integration.sources.test_prometheus_bounds import matrix, send, serving
from tests.said import said_of

pytestmark = pytest.mark.integration

CANARY = "canary\x1b[2J4711"
RUN = run_of(0)


@pytest.fixture
def said(lake, caplog, capfd):
    """Collect logs and messages, then look for the canary there and in all files except rows."""
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "include.chimera")
    told: list[str] = []
    yield told
    record_quality(RUN)
    build_docs()
    write_report(RUN)
    told += [to_json(close_run(RUN)), caplog.text, *capfd.readouterr()]
    told += [record.getMessage() for record in caplog.records]
    for text in told:
        assert "canary" not in text, text[max(text.index("canary") - 300, 0) :][:600]
        assert "\x1b[2J" not in text
    assert list(lake.rglob("quality.html"))
    for path in lake.rglob("*"):
        is_rows = path.suffix == ".parquet" or "_delta_log" in path.parts
        if (
            path.is_file()
            and not is_rows
            and path.name != "batch.json"
            and "logs" not in path.parts
        ):
            assert b"canary" not in path.read_bytes(), path


@contextmanager
def failing(kind: type[ChimeraError], said: list[str]):
    """Expect a failure as in a task, and collect what Airflow logs and the message sent."""
    with pytest.raises(kind) as told, own_words():
        yield
    message = failure(RUN, "key", "a_task", Fault.of(told.value), Affected())
    said += [said_of(told.value), str(message)]


def fill(server, table: str, count: int = 3, **values: str) -> None:
    """Insert rows with the canary in each text; values are SQL by column."""
    found = server.query(
        "select column_name, data_type from information_schema.columns "
        f"where table_schema = 'app' and table_name = '{table}'"
    )
    text = "'canary' || chr(27) || '[2J4711' || n"
    kinds = {
        "text": text, "character varying": text, "uuid": "gen_random_uuid()",
        "timestamp with time zone": f"{at(0)} + n * interval '1 s'",
        "boolean": "true", "ARRAY": f"array[{text}]",
    }  # fmt: skip
    # The one column whose values may be shown: its rule says that it is public.
    values = {"status": "'succeeded'", **values}
    columns = {name: values.get(name, kinds.get(kind, "1")) for name, kind in found}
    server.execute(
        f"insert into app.{table} ({', '.join(columns)}) "
        f"select {', '.join(columns.values())} from generate_series(1, {count}) as n"
    )


def judge(table: str, said: list[str]) -> None:
    """Judge a table's staged rows and publish them, as its gate's task does."""
    with own_words(), gated(RUN, table) as (gate, verdict):
        said += [str(verdict.describe_dict()), repr(verdict)]
        # A person accepts whatever rule broke: what comes behind the verdict is tried too.
        gate.checked.verdict = replace(verdict, accepted_by="ada")
        gate.publish()


VERSIONS = {GENERATION: GENERATIONS, EVALUATIONS.name: EVALUATIONS}
TABLES = (*VERSIONS, "bronze.models")


def extract(uri: str, table: str) -> None:
    if table in VERSIONS:
        extract_table(intake_of(table), uri, RUN)
    else:
        extract_table(intake_of(MODELS.name), uri, RUN)


@pytest.mark.parametrize("table", TABLES)
def test_rows_full_of_canaries_pass_or_are_refused_in_silence(server, uri, said, table):
    """Every text breaks a rule, or none does: the gate reports only counts."""
    fill(server, table.partition(".")[2])
    extract(uri, table)
    judge(table, said)


@pytest.mark.parametrize("table", TABLES)
def test_rows_that_do_not_fit_become_letters_in_silence(server, uri, said, table):
    """Too long for a row, and a time beyond the calendar."""
    name = table.partition(".")[2]
    (column, *_) = server.query(
        "select column_name from information_schema.columns where table_schema = 'app' "
        f"and table_name = '{name}' and data_type = 'text' order by 1"
    )[0]
    fill(server, name, **{column: "repeat('canary' || chr(27), 20000) || n"})
    extract(uri, table)
    judge(table, said)


def as_view(server, table: str, column: str, expression: str) -> None:
    """Put a view in a table's place whose column is computed while it is read."""
    names = [
        name
        for (name,) in server.query(
            "select column_name from information_schema.columns where table_schema = 'app' "
            f"and table_name = '{table}'"
        )
    ]
    shown = ", ".join(f"{expression} as {name}" if name == column else name for name in names)
    server.execute(
        f"alter table app.{table} rename to {table}_kept",
        f"create view app.{table} as select {shown} from app.{table}_kept",
    )


BROKEN = {
    "a cast": "(user_id || 'x')::int8",
    "a division": "(1 / (length(user_id) - length(user_id)))::int8",
    "a function": "length(encode(decode(user_id, 'hex'), 'escape'))::int8",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_column_that_can_not_be_read_is_told_by_its_state(server, uri, said, how):
    """PostgreSQL quotes the value in its error and in the detail lines."""
    fill(server, "generations")
    as_view(server, "generations", "prompt_tokens", BROKEN[how])
    with failing(ChimeraError, said):
        extract(uri, GENERATION)


def test_a_retyped_column_is_told_by_name_and_type(server, uri, said):
    fill(server, "generations")
    as_view(server, "generations", "prompt_tokens", "user_id")
    with failing(ContractError, said):
        extract(uri, GENERATION)
    assert "prompt_tokens text" in said[0]


def test_counts_that_do_not_add_up_are_told_by_numbers(server, uri, said):
    fill(server, "generations")
    extract(uri, GENERATION)
    batch = load_manifest(RUN, GENERATION)
    save(RUN, replace(batch, rows_read=batch.rows_read + 1))
    with failing(CountError, said):
        judge(GENERATION, said)


def test_a_commit_that_is_not_what_was_published_is_told_by_numbers(server, uri, said, monkeypatch):
    fill(server, "generations")
    extract(uri, GENERATION)
    monkeypatch.setattr(verification, "committed_counts", lambda *_: None)
    with failing(VerificationError, said):
        judge(GENERATION, said)


def test_an_error_of_nobody_is_told_by_its_place(server, uri, said, monkeypatch):
    """A bug of ours in the middle of a gate, while it handles a row."""
    fill(server, "generations")
    extract(uri, GENERATION)

    def mistaken(*_):
        return pa.array([CANARY]).cast(pa.int64())

    monkeypatch.setattr(verification, "committed_counts", mistaken)
    with failing(UnexpectedError, said):
        judge(GENERATION, said)


def write_log(lake, *lines: str):
    hour = lake / "logs" / f"dt={START:%Y-%m-%d}" / f"hour={START:%H}"
    hour.mkdir(parents=True, exist_ok=True)
    file = hour / "api.jsonl"
    file.write_text("".join(line + "\n" for line in lines))
    return file


def line(**fields: object) -> str:
    names = ("request_id", "path", "user_id", "message")
    public = {"level": "info", "method": "GET"}  # their rules say that values may be shown
    return json.dumps(
        {"timestamp": START.isoformat(), **dict.fromkeys(names, CANARY), **public, **fields}
    )


def test_log_lines_full_of_canaries_pass_or_are_refused_in_silence(lake, said):
    wrong = [line(**{name: CANARY}) for name in ("timestamp", "status_code", "duration_ms")]
    write_log(lake, line(), line(status_code=200), f"{{{CANARY}", CANARY, *wrong)
    with own_words():
        extract_api_logs(log_root(str(lake / "logs")), RUN)
    judge("bronze.api_logs", said)


def test_log_lines_that_vanish_are_told_by_numbers(lake, said):
    file = write_log(lake, *[line(status_code=200, request_id=str(n)) for n in range(9)])
    with own_words():
        extract_api_logs(log_root(str(lake / "logs")), RUN)
    judge("bronze.api_logs", said)
    os.truncate(file, len(line(status_code=200, request_id="0")) + 1)
    extract_api_logs(log_root(str(lake / "logs")), RUN)
    with failing(ShrinkError, said):
        judge("bronze.api_logs", said)


LABELS = {"provider": CANARY, "model": CANARY, CANARY: CANARY}
SAMPLE = [START.timestamp(), "1"]
NONSENSE = {
    "labels": (matrix({"metric": LABELS, "values": [SAMPLE]}), None),
    "a value": (matrix({"metric": LABELS, "values": [[SAMPLE[0], CANARY]]}), None),
    "a time": (matrix({"metric": LABELS, "values": [[CANARY, "1"]]}), None),
    "a bound": (matrix({"metric": {**LABELS, "le": CANARY}, "values": [SAMPLE]}), None),
    "a series": (matrix({"metric": CANARY, "values": CANARY}), None),
    "samples": (matrix({"metric": LABELS, "values": [CANARY, [CANARY], {CANARY: CANARY}]}), None),
    "an error": (
        {"status": "error", "errorType": CANARY, "error": CANARY, "warnings": [CANARY]},
        DataFaultError,
    ),
    "a warning": ({**matrix(), "warnings": [CANARY]}, DataFaultError),
    "a type": (
        {"status": "success", "data": {"resultType": CANARY, "result": []}}, ContractError,
    ),
    "no JSON": (CANARY.encode(), SourceUnavailableError),
    "another JSON": ([CANARY], SourceUnavailableError),
    "no UTF-8": (b'{"status": "canary\xff"}', SourceUnavailableError),
}  # fmt: skip


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_of_prometheus_is_told_by_kind(said, what):
    answer, kind = NONSENSE[what]

    def handle(handler, query):
        is_asked = query["query"] == METRICS[0] and float(query["start"]) == START.timestamp()
        send(handler, answer if is_asked else matrix())

    with serving(handle) as url:
        if kind is None:
            with own_words():
                extract_provider_metrics(
                    intake_of("bronze.provider_metrics"), PrometheusServer(url), RUN
                )
            judge("bronze.provider_metrics", said)
        else:
            with failing(kind, said):
                extract_provider_metrics(
                    intake_of("bronze.provider_metrics"), PrometheusServer(url), RUN
                )


def test_a_status_line_of_prometheus_is_told_by_its_number(said):
    def handle(handler, _):
        handler.send_response(403, "canary 4711")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with serving(handle) as url, failing(ConfigurationError, said):
        extract_provider_metrics(METRICS_INTAKE, PrometheusServer(url), RUN)
