"""JSON in files, by a profile's SQL alone: each record a row or a letter, and no text."""

import gzip
import json
import logging
import os
import shutil
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from include.chimera.lake.delta.scans import ask
from include.chimera.profiles.chosen import intake_of
from include.chimera.sources.json_records import extract
from include.chimera.sources.json_records.extract import PURPOSE, extract_records
from include.chimera.sources.stored.stored_roots import stored_root
from include.chimera.window import Run, Window
from tests.integration.ingest.pipeline import START, letters, publish, rows, run_of

pytestmark = pytest.mark.integration

TABLE = "bronze.generations"
CANARY = "CANARY-51c0"
PAYLOAD = {
    "id": "a",
    "status": "success",
    "startTime": 1767600000.5,
    "endTime": 1767600002.5,
    "completionStartTime": 1767600001.0,
    "model": "gpt-4o",
    "custom_llm_provider": "openai",
    "prompt_tokens": 10,
    "completion_tokens": 20,
    "response_cost": 0.00022500000000000002,
    "request_tags": ["prod", "User-Agent: x"],
    "messages": [{"role": "user", "content": CANARY}],
    "response": {"choices": [CANARY]},
    "error_str": CANARY,
    "metadata": {"requester_metadata": {"note": CANARY}, "user_api_key_user_id": "u"},
}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "records"
    made.mkdir()
    return made


def ingest(folder, table=TABLE, run=None):
    run = run or run_of(0)
    extract_records(intake_of(table), stored_root(str(folder), PURPOSE), run)
    return publish(run, table)


def put(place, content):
    """Write a file in the first hour, as its time says."""
    place.write_bytes(content)
    os.utime(place, times=(START.timestamp() + 1800,) * 2)


def write(folder, name, *documents):
    put(folder / name, "\n".join(map(json.dumps, documents)).encode())


def test_a_payload_of_litellm_becomes_a_row(choose, folder):
    choose("litellm-payloads")
    failed = {
        **PAYLOAD,
        "id": "b",
        "status": "failure",
        "endTime": "2026-01-05 08:00:03.250",
        "error_information": {"error_class": "Timeout", "error_message": CANARY},
        "request_tags": {"not": "a list"},
    }
    write(folder, "lines.jsonl", PAYLOAD, failed)
    assert ingest(folder).rows_published == 2
    columns = "generation_id, status, error_code, prompt_tokens, latency_ms, ttft_ms, techniques, "
    assert rows(columns=f"{columns} cost_usd::varchar, user_id") == [
        ("a", "succeeded", None, 10, 2000.0, 500.0, ["prod"], "0.000225000", "u"),
        ("b", "failed", "Timeout", 10, 2750.0, 500.0, None, "0.000225000", "u"),
    ]
    assert ingest(folder, run=run_of(0, "again")).rows_duplicate == 2


def test_a_list_of_payloads_is_a_row_each(choose, folder):
    """As the callback to any address posts them."""
    choose("litellm-payloads")
    write(folder, "list.json", [PAYLOAD, {**PAYLOAD, "id": "b"}])
    assert ingest(folder).rows_published == 2
    assert rows(columns="generation_id, model_id") == [("a", "gpt-4o"), ("b", "gpt-4o")]


def test_a_document_that_is_none_is_one_letter(choose, folder, monkeypatch):
    """However many lines it has; one that is too long says so."""
    choose("litellm-payloads")
    put(folder / "broken.json", b'{\n"id":\n"a"\n')
    assert ingest(folder).rows_refused == 1
    monkeypatch.setattr(extract, "_MOST_BYTES", 100)
    put(folder / "long.json", json.dumps(PAYLOAD, indent=1).encode())
    ingest(folder, run=run_of(0, "again"))
    assert sorted(reason for _, _, reason in letters()) == ["json_over_64_mib", "malformed_json"]


def test_the_payload_that_litellm_shows_becomes_a_row(choose, folder, traces_folder):
    choose("litellm-payloads")
    shutil.copy(traces_folder / "litellm" / "standard_logging_payload.json", folder)
    assert ingest(folder).rows_published == 1
    assert rows(columns="model_id, prompt_tokens, completion_tokens, cost_usd::double") == [
        ("gpt-4o", 10, 20, 0.000225)
    ]


def test_langfuse_is_read_by_data_alone(choose, folder, traces_folder):
    """Its own sums of calls, tokens and cost; its scores are numbers."""
    choose("langfuse")
    places = sorted((traces_folder / "langfuse").glob("*.trace.json"))
    declared = json.loads((traces_folder / "langfuse" / "declared.json").read_text())
    own = [declared[place.name] for place in places]
    for place in places:
        shutil.copy(place, folder)
    calls = sum(each["by_type"]["GENERATION"] for each in own)
    later = Run("later", Window.of_hour(datetime(2026, 4, 1, tzinfo=UTC)))
    assert ingest(folder, run=later).rows_published == calls
    sums = "sum(prompt_tokens)::bigint, sum(completion_tokens)::bigint, sum(cost_usd)::double"
    assert rows(columns=sums) == [
        (
            sum(each["usage_input"] for each in own),
            sum(each["usage_output"] for each in own),
            pytest.approx(sum(each["totalCost"] for each in own)),
        )
    ]
    scores = sum(each["scores"] for each in own)
    assert ingest(folder, "bronze.evaluations", later).rows_published == scores > 0
    assert {kind for (kind,) in rows("bronze.evaluations", "evaluation_kind")} == {"benchmark"}


def test_the_export_of_langfuse_has_other_names(choose, folder):
    choose("langfuse")
    observation = {
        "id": "o",
        "trace_id": "t",
        "type": "GENERATION",
        "start_time": "2026-01-05 08:00:00.000000",
        "end_time": "2026-01-05 08:00:01.500000",
        "provided_model_name": "m",
        "usage_details": {"input": 3, "output": 4},
        "total_cost": 0.5,
        "level": "ERROR",
        "input": CANARY,
        "status_message": CANARY,
    }
    write(folder, "observations.jsonl", observation, {**observation, "id": "s", "type": "SPAN"})
    (folder / "more.jsonl.gz").write_bytes(
        gzip.compress(json.dumps({**observation, "id": "p"}).encode())
    )
    assert ingest(folder).rows_published == 2
    assert rows(columns="generation_id, status, latency_ms, prompt_tokens, cost_usd::double") == [
        ("o", "failed", 1500.0, 3, 0.5),
        ("p", "failed", 1500.0, 3, 0.5),
    ]


def test_batches_that_litellm_sends_to_langfuse_are_calls(choose, folder, traces_folder):
    """Its own tokens, costs and times, which name their zone."""
    choose("langfuse")
    declared = json.loads((traces_folder / "langfuse" / "declared.json").read_text())
    own = {name: says for name, says in declared.items() if name.startswith("litellm-")}
    for name in own:
        shutil.copy(traces_folder / "langfuse" / name, folder)
    later = Run("later", Window.of_hour(datetime(2026, 4, 1, tzinfo=UTC)))
    assert ingest(folder, run=later).rows_published == len(own) == 4
    found = rows(columns="created_at, updated_at, prompt_tokens, completion_tokens, cost_usd")
    expected = [
        (
            *map(datetime.fromisoformat, says["times"][0]),
            says["usage"][0]["input"],
            says["usage"][0]["output"],
            round(Decimal(says["usage"][0]["totalCost"]), 9),
        )
        for says in own.values()
    ]
    assert sorted(found) == sorted(expected)


def test_what_a_batch_tells_of_a_call_in_several_events_is_one_row(choose, folder, lake):
    choose("langfuse")
    begun = {"id": "o", "traceId": "t", "startTime": "2026-01-05T08:00:00Z", "model": "m"}
    ended = {"id": "o", "endTime": "2026-01-05T08:00:02Z", "usage": {"input": 3, "output": 4}}
    score = {"id": "s", "traceId": "t", "name": "tone", "value": 0.5, "comment": CANARY}
    bodies = {
        "trace-create": {"id": "t", "userId": "u", "sessionId": "c", "input": CANARY},
        "generation-create": {**begun, "input": CANARY},
        "generation-update": ended,
        "span-create": {**begun, "id": "x"},
        "observation-create": {**begun, **ended, "id": "p", "type": "EMBEDDING"},
        "score-create": score,
    }
    batch = [
        {"id": str(number), "type": kind, "timestamp": "2026-01-05T08:00:03Z", "body": body}
        for number, (kind, body) in enumerate(bodies.items())
    ]
    write(folder, "batch.json", {"batch": batch, "metadata": {}})
    assert ingest(folder).rows_published == 2
    columns = "generation_id, user_id, session_id, latency_ms, prompt_tokens, completion_tokens"
    assert rows(columns=columns) == [("o", "u", "c", 2000.0, 3, 4), ("p", "u", "c", 2000.0, 3, 4)]
    assert ingest(folder, "bronze.evaluations").rows_published == 1
    assert rows("bronze.evaluations", "technique, score, behaviour_id") == [("tone", 0.5, "t")]
    for path in lake.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes(), path


def test_a_file_of_which_no_table_takes_anything_is_told_once(choose, folder, lake):
    """Without its content; what Langfuse writes besides is known, and empty lists are nothing."""
    choose("langfuse")
    call = {"id": "o", "type": "GENERATION", "startTime": "2026-01-05T08:00:00Z", "traceId": "t"}
    score = {"id": "s", "dataType": "NUMERIC", "name": "tone", "value": 1, "traceId": "t"}
    write(folder, "calls.json", [call])
    write(folder, "scores.json", [{**score, "timestamp": "2026-01-05T08:00:00Z"}])
    write(folder, "traces.jsonl", {"id": "t", "project_id": "p", "name": CANARY})
    write(folder, "empty.json", [])
    write(folder, "foreign.jsonl", {"secret": CANARY}, {"secret": CANARY})
    for number in range(2):
        done = ingest(folder, run=run_of(0, f"run_{number}"))
        assert done.rows_refused == 1 - number
    assert ingest(folder, "bronze.evaluations").rows_published == 1
    assert letters("reason, coordinates") == [("unknown_format", '{"file": "foreign.jsonl"}')]
    for path in lake.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes(), path


def test_lists_that_langfuse_answers_with_are_calls_and_scores(choose, folder):
    choose("langfuse")
    call = {"id": "o", "type": "GENERATION", "startTime": "2026-01-05T08:00:00Z", "traceId": "t"}
    score = {"id": "s", "dataType": "NUMERIC", "name": "tone", "value": 1, "traceId": "t"}
    write(folder, "page.json", {"data": [call, {**call, "id": "x", "type": "SPAN"}], "meta": {}})
    write(folder, "scores.json", [{**score, "timestamp": "2026-01-05T08:00:00Z"}])
    assert ingest(folder).rows_published == 1
    assert ingest(folder, "bronze.evaluations").rows_published == 1


def test_a_line_of_a_table_is_a_document_of_texts(choose, folder, lake):
    """One with other values than names is refused, and nothing of it is stored."""
    choose("jailbreakbench")
    names = "technique,model,attack_type,evaluation_date,index,behavior,jailbroken"
    lines = [
        names,
        f"PAIR,vicuna,black_box,2026-01-04,0,{CANARY},True",
        f'PAIR,vicuna,black_box,2026-01-04,1,"{CANARY}\n, quoted",False',
        f"PAIR,vicuna,black_box,2026-01-04,2,{CANARY}",
        "PAIR,vicuna,black_box,2026-01-04,3,x,",
        f"PAIR,vicuna,black_box,never,4,{CANARY},True",
    ]
    put(folder / "a.csv", "\ufeff".encode() + "\r\n".join(lines).encode())
    done = ingest(folder, "bronze.evaluations")
    assert (done.rows_published, done.rows_refused) == (3, 2)
    assert rows("bronze.evaluations", "behaviour_id, successes, passes, undetermined") == [
        ("jbb-000", 1, 0, 0),
        ("jbb-001", 0, 1, 0),
        ("jbb-003", None, None, 1),
    ]
    assert {reason.split(",")[0] for _, _, reason in letters()} == {
        "malformed_csv",
        "not_null_created_at",
    }
    for path in lake.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes(), path


def test_results_of_pyrit_are_attacks(choose, folder):
    """As its database's table is exported: columns of JSON are texts."""
    choose("pyrit")
    target = {"class_name": "OpenAIChatTarget", "model_name": "a", "endpoint": CANARY}
    attack = {"class_name": "CrescendoAttack", "children": {"objective_target": target}}
    row = {
        "id": "a1",
        "objective": CANARY,
        "objective_sha256": "ab",
        "atomic_attack_identifier": json.dumps({"class_name": "AtomicAttack", "children": attack}),
        "outcome": "success",
        "outcome_reason": CANARY,
        "execution_time_ms": 12,
        "timestamp": "2026-01-05 08:00:00.000000",
    }
    other = {**row, "id": "a2", "outcome": "undetermined", "atomic_attack_identifier": None}
    old = {**other, "attack_identifier": {"__type__": "PromptSendingAttack"}, "id": "a3"}
    write(folder, "a.json", [row, other, {**old, "outcome": "failure"}])
    assert ingest(folder, "bronze.evaluations").rows_published == 3
    columns = "evaluation_id, technique, model_id, successes, passes, undetermined, latency_ms"
    assert rows("bronze.evaluations", columns) == [
        ("a1", "CrescendoAttack", "a", 1, 0, 0, 12.0),
        ("a2", None, None, None, None, 1, 12.0),
        ("a3", "PromptSendingAttack", None, 0, 1, 0, 12.0),
    ]
    assert CANARY not in str(rows("bronze.evaluations"))


@pytest.mark.parametrize("harm", [{"startTime": CANARY}, {"status": None}, {"id": None}])
def test_no_record_is_lost_and_no_text_enters(choose, folder, lake, caplog, harm):
    choose("litellm-payloads")
    write(folder, "all.jsonl", PAYLOAD, {**PAYLOAD, "id": "b", **harm})
    put(folder / "broken.jsonl", f'{{"id": "{CANARY}"\n[1, \nnull\n'.encode())
    with caplog.at_level(logging.DEBUG):
        published = ingest(folder)
    assert (published.rows_published, published.rows_refused) == (1, 4)
    assert [reason for _, _, reason in letters()].count("malformed_json") == 2
    assert CANARY not in str(ask("ops.dead_letters", "select * from ({})")) + caplog.text
    assert CANARY not in str(rows())
    for path in lake.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes(), path


def test_what_happened_after_the_window_is_left_to_its_run(choose, folder):
    choose("litellm-payloads")
    late = {**PAYLOAD, "id": "b", "startTime": 1767604000, "endTime": 1767604001}
    late["completionStartTime"] = 1767604001
    write(folder, "all.jsonl", PAYLOAD, late)
    assert ingest(folder).rows_published == 1
    assert ingest(folder, run=run_of(1)).rows_published == 1
