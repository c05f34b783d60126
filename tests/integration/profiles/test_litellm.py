"""LiteLLM's own tables, read in place: what becomes of a call, whatever the installation's age."""

import json
import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest

from include.chimera.lake.delta.scans import ask
from include.chimera.profiles.chosen import intake_of, intakes
from include.chimera.settings import get_settings
from include.chimera.sources.completeness import database_lacks
from include.chimera.sources.postgres.database_checks import check_database
from include.chimera.sources.postgres.extract import extract_table
from include.chimera.sources.postgres.late_rows import extract_late_rows
from include.chimera.sources.postgres.platform_rows import PlatformRows
from include.chimera.sources.postgres.sessions import snapshot
from include.chimera.window import HOUR, Run, Window
from tests.integration.ingest.pipeline import START, hour, letters, publish, rows, run_of
from tests.integration.profiles.litellm import NEWEST, Database, call

pytestmark = pytest.mark.integration

TABLE = "bronze.generations"
# Before it had: the table's timestamps, the duration, the status, the session.
AGES = [NEWEST, "20260818", "20260224", "20250508", "20250425"]


def ingest(database, run, table=TABLE):
    extract_table(intake_of(table), database.uri(), run)
    return publish(run, table)


def moment(minutes, seconds=0):
    """Return a time after the first hour's start, as LiteLLM stores it."""
    return (START + timedelta(minutes=minutes, seconds=seconds)).replace(tzinfo=None).isoformat()


def test_the_payload_of_a_call_becomes_a_row(litellm, traces_folder):
    """The one in the shared data, whose metadata are JSON inside a string."""
    payload = json.loads((traces_folder / "litellm" / "spend_logs_payload.json").read_text())
    documents = ("metadata", "request_tags", "messages", "response", "proxy_server_request")
    parsed = {name: json.loads(payload[name]) for name in documents}
    litellm.insert("LiteLLM_SpendLogs", {**payload, **parsed})
    inside = {name: json.dumps(payload[name]) for name in documents}
    litellm.insert("LiteLLM_SpendLogs", {**payload, **inside, "request_id": "as text"})
    when = datetime(2025, 1, 24, 9, tzinfo=UTC)
    assert ingest(litellm, Run("payload", Window.of_hour(when))).rows_published == 2
    columns = "created_at, updated_at, model_id, provider_id, user_id, session_id, prompt_tokens, "
    columns += "completion_tokens, cost_usd, status, error_code, ttft_ms, latency_ms"
    first, second = rows(columns=columns)
    assert (
        first
        == second
        == (
            when.replace(minute=20, second=46, microsecond=847000),
            when.replace(minute=20, second=46, microsecond=852000),
            "gpt-4o",
            "openai",
            None,
            "1234567890",
            10,
            20,
            Decimal("0.000225000"),
            "succeeded",
            None,
            None,  # its completion starts as it ends: it was not streamed
            5.0,
        )
    )


FAILURE = {
    "status": "failure",
    "error_information": {"error_class": "RateLimitError", "error_code": "429"},
}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"status": "succeeded", "error_code": None}),
        ({"status": "failure", "metadata": FAILURE}, {"error_code": "RateLimitError"}),
        ({"status": None, "metadata": FAILURE}, {"status": "failed"}),
        ({"status": "", "metadata": json.dumps(json.dumps(FAILURE))}, {"status": "failed"}),
        (
            {"status": "failure", "metadata": json.dumps(json.dumps(FAILURE))},
            {"error_code": "RateLimitError"},
        ),
        ({"status": "failure", "metadata": None}, {"status": "failed", "error_code": None}),
        ({"status": "failure", "metadata": []}, {"status": "failed", "error_code": None}),
        (
            {"request_id": "resp_" + "bGl0ZWxsbTpjdXN0b20" * 20},
            {"generation_id": "resp_" + "bGl0ZWxsbTpjdXN0b20" * 20},
        ),
        (
            {"request_id": "chatcmpl-1_cache_hit1767600000.1", "cache_hit": "True", "spend": 0.0},
            {"cost_usd": Decimal(0), "prompt_tokens": 10},
        ),
        ({"model": "", "model_group": "my-alias"}, {"model_id": "my-alias"}),
        ({"model": "", "model_group": None}, {"model_id": None}),
        ({"end_user": "customer-7"}, {"user_id": "customer-7"}),
        ({"user": "", "end_user": None}, {"user_id": None}),
        (
            {"request_tags": ["prod", "User-Agent: OpenAI", "User-Agent: OpenAI/Python 1.2"]},
            {"techniques": ["prod"]},
        ),
        ({"request_tags": {"not": "a list"}}, {"techniques": None}),
        (
            {"completionStartTime": moment(5, 1), "endTime": moment(5, 4)},
            {"ttft_ms": 1000.0, "latency_ms": 4000.0},
        ),
        ({"endTime": moment(5, 4), "request_duration_ms": 3900}, {"latency_ms": 3900.0}),
        ({"spend": 3.75e-8}, {"cost_usd": Decimal("0.000000038")}),
        ({"custom_llm_provider": None}, {"provider_id": None}),
    ],
)
def test_what_a_call_becomes(litellm, values, expected):
    litellm.insert("LiteLLM_SpendLogs", call(1, moment(5), **{"endTime": moment(5, 2), **values}))
    assert ingest(litellm, run_of(0)).rows_published == 1
    assert rows(columns=", ".join(expected)) == [tuple(expected.values())]


@pytest.mark.parametrize("before", AGES)
def test_an_older_installation_is_read_by_the_same_query(postgres, choose, before):
    """A column that it lacks is null, and an index bounds the hour."""
    choose("litellm")
    database = Database(postgres, before)
    started = [
        call(n, moment(n), endTime=moment(n, 3), metadata=FAILURE if n == 2 else {}) for n in (1, 2)
    ]
    database.insert("LiteLLM_SpendLogs", *(row | {"status": None} for row in started))
    assert ingest(database, run_of(0)).rows_published == 2
    assert rows(columns="status, latency_ms") == [("failed", 3000.0), ("succeeded", 3000.0)]
    for intake in intakes():
        read = PlatformRows.of(intake)
        with snapshot(database.uri()) as source:
            assert read.present(source) == intake.contract.source_columns
            assert read.are_distinct(source) == (intake.contract.name == TABLE)
    place = PlatformRows.of(intake_of(TABLE)).between(START, START + HOUR)
    plan = database.query(f"explain select generation_id, status from {place}")
    assert '"startTime" >=' in str(plan)
    assert "Index Scan" in str(plan)
    database.drop()


def test_models_are_those_that_its_database_knows(litellm):
    """Deployments of one name are one model; a price that is text is none."""

    def model(number, name, info, **values):
        return {
            "model_id": str(number),
            "model_name": name,
            "litellm_params": {"model": "encrypted", "api_base": "encrypted"},
            "model_info": info,
            "created_by": "a",
            "updated_by": "a",
            **values,
        }

    price = {"input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05}
    litellm.insert(
        "LiteLLM_ProxyModelTable",
        model(1, "gpt-4o", price, updated_at="2026-01-01"),
        model(2, "gpt-4o", {**price, "max_input_tokens": 128000}, updated_at="2026-01-02"),
        model(3, "alias", {"base_model": "azure/gpt-4o", "litellm_provider": "azure"}),
        model(4, "odd", {"input_cost_per_token": "dear"}, blocked=True),
        model(5, "bare", None),
    )
    assert ingest(litellm, run_of(0), "bronze.models").rows_published == 4
    columns = "model_id, provider_id, name, input_usd_per_mtok, output_usd_per_mtok, "
    assert rows("bronze.models", f"{columns} context_tokens, is_enabled") == [
        ("azure/gpt-4o", "azure", "alias", None, None, None, True),
        ("bare", None, "bare", None, None, None, True),
        ("gpt-4o", None, "gpt-4o", 2.5, 10.0, 128000, True),
        ("odd", None, "odd", None, None, None, False),
    ]


def test_rows_that_are_flushed_after_their_hour_was_read_come_with_the_next(litellm):
    litellm.insert("LiteLLM_SpendLogs", call(1, moment(30)))
    ingest(litellm, run_of(0))
    litellm.insert("LiteLLM_SpendLogs", call(2, moment(59, 30)), call(3, moment(61)))
    assert ingest(litellm, run_of(1)).rows_published == 2
    assert len(rows()) == 3


def test_the_overlap_is_at_least_as_long_as_rows_are_held_back(litellm, monkeypatch):
    monkeypatch.setenv("CHIMERA_OVERLAP_MINUTES", "0")
    get_settings.cache_clear()
    ingest(litellm, run_of(0))
    litellm.insert("LiteLLM_SpendLogs", call(1, moment(59, 1)), call(2, moment(58, 59)))
    assert ingest(litellm, run_of(1)).rows_published == 1


def test_an_hour_is_complete_when_its_last_rows_can_have_been_flushed(litellm):
    with snapshot(litellm.uri()):
        now = datetime.now(UTC)
    assert database_lacks(litellm.uri(), now - timedelta(seconds=90)) == ""
    assert "a clock at" in database_lacks(litellm.uri(), now - timedelta(seconds=30))


def day(number, name="daily"):
    """Return the run of the daily comparison for the day that ends so many hours on."""
    return Run(f"{name} {number}", Window(hour(number - 24).start, hour(number).start), False)


def test_rows_that_came_hours_late_are_found_the_next_day(litellm):
    """Its database was away, and the log waited in the proxy."""
    litellm.insert("LiteLLM_SpendLogs", call(1, moment(5)), call(2, moment(65)))
    for number in range(4):
        ingest(litellm, run_of(number))
    long = call(7, moment(-200), endTime=moment(90))
    late = [
        long,
        call(3, moment(7)),
        call(4, moment(125)),
        call(5, moment(-30)),
        call(6, moment(239)),
    ]
    litellm.insert("LiteLLM_SpendLogs", *late)
    batch = extract_late_rows(intake_of(TABLE), litellm.uri(), day(5))
    assert batch.rows_read == 6, "hours with a late row, and what the next hour still covers"
    published = publish(day(5))
    assert (published.rows_published, published.rows_duplicate) == (4, 2)
    assert [key for (key,) in rows(columns="generation_id")] == [
        f"chatcmpl-{number}" for number in (1, 2, 3, 4, 6, 7)
    ], "not those from before the lake's first hour"
    again = extract_late_rows(intake_of(TABLE), litellm.uri(), day(5, "again"))
    assert again.rows_read == 0


def test_rows_that_litellm_prunes_stay_in_the_lake(litellm):
    litellm.insert("LiteLLM_SpendLogs", call(1, moment(5)))
    ingest(litellm, run_of(0))
    litellm.query('delete from "LiteLLM_SpendLogs"')
    assert extract_late_rows(intake_of(TABLE), litellm.uri(), day(5)).rows_read == 0
    publish(day(5))
    assert rows(columns="_is_deleted") == [(False,)]
    assert intake_of(TABLE).compared == "missing"


def test_an_empty_lake_asks_for_no_late_rows(litellm):
    litellm.insert("LiteLLM_SpendLogs", call(1, moment(5)))
    assert extract_late_rows(intake_of(TABLE), litellm.uri(), day(5)).rows_read == 0


CANARY = "CANARY-7f3a"
TEXTS = {
    "messages": [{"role": "user", "content": CANARY}],
    "response": {"choices": [{"message": {"content": CANARY}}]},
    "proxy_server_request": {"body": {"messages": CANARY}, "headers": {"authorization": CANARY}},
    "metadata": {
        "status": "failure",
        "spend_logs_metadata": {"note": CANARY},
        "guardrail_information": [{"guardrail_response": CANARY}],
        "error_information": {
            "error_class": "BadRequestError",
            "error_message": CANARY,
            "traceback": CANARY,
        },
    },
    "api_base": f"https://{CANARY}",
    "requester_ip_address": CANARY,
    "cache_key": CANARY,
    "api_key": CANARY,
}


def everything(name):
    return str(ask(name, "select * from ({})"))


@pytest.mark.parametrize(
    "harm",
    [
        {},
        {"spend": float("nan")},
        {"prompt_tokens": -5},
        {"session_id": "x" * 70_000},
        {"metadata": json.dumps(json.dumps(TEXTS["metadata"]))},
    ],
    ids=["good", "unfit", "refused", "too long", "inside a string"],
)
def test_no_text_enters(litellm, lake, caplog, harm):
    """Neither as a row nor as a dead letter, a log line or any other file of the lake."""
    litellm.insert("LiteLLM_SpendLogs", call(1, moment(5), **{**TEXTS, **harm}), call(2, moment(6)))
    with caplog.at_level(logging.DEBUG):
        assert ingest(litellm, run_of(0)).rows_read >= 1
    assert len(letters()) == int("spend" in harm or "prompt_tokens" in harm or "session_id" in harm)
    payloads = ask("ops.dead_letters", "select payload from ({})")
    assert CANARY not in everything(TABLE) + str(payloads) + everything("ops.dead_letters")
    assert CANARY not in caplog.text
    for path in lake.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes(), path


@pytest.fixture(params=[NEWEST, "20250425"])
def reader(request, postgres, choose):
    """Return the URI for the role of the profile's page, and the database."""
    choose("litellm")
    database = Database(postgres, request.param)
    page = (intake_of(TABLE).folder / "README.md").read_text()
    database.query(page.split("```sql\n")[1].split("```")[0])
    yield database.uri().replace("//postgres@", "//chimera_reader@"), database
    database.query("drop owned by chimera_reader")
    database.query("drop role chimera_reader")
    database.drop()


def test_the_role_of_the_page_reads_what_the_hour_needs_and_no_text(reader, caplog):
    uri, database = reader
    database.insert("LiteLLM_SpendLogs", call(1, moment(5)))
    for intake in intakes():
        extract_table(intake, uri, run_of(0))
    assert publish(run_of(0), TABLE).rows_published == 1
    assert "pg_read_all_stats" not in caplog.text
    with psycopg.connect(uri, autocommit=True) as session:
        for statement in ("select messages", "select api_key", "select *", "delete"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(f'set transaction read write; {statement} from "LiteLLM_SpendLogs"')


def test_doctor_says_what_is_missing(reader):
    uri, database = reader
    assert [each.check for each in check_database(uri) if not each.is_kept] == []
    database.query('revoke select (metadata) on "LiteLLM_SpendLogs" from chimera_reader')
    database.query('alter table "LiteLLM_ProxyModelTable" rename to elsewhere')
    told = {each.check: each for each in check_database(uri)}
    grants = told["database: generations, by generations.sql"]
    assert 'no right to read "LiteLLM_SpendLogs"' in grants.text
    assert "grants on the profile's page, for chimera_reader" in grants.remedy
    assert "no such table" in told["database: models, by models.sql"].text
