"""One call of a model is one row, however many spans bear its tokens, whenever they come."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.chimera.contracts import EVALUATIONS, GENERATIONS
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.sources.otel.extract import PURPOSE, extract_spans
from include.chimera.sources.reports.evaluations import identity
from include.chimera.window import HOUR, Run, Window, floor_hour
from tests.builders import staged_refusals
from tests.integration.ingest.pipeline import publish

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]
NOW = floor_hour(datetime.now(UTC))
TRACE = "0af7651916cd43dd8448eb211c80319c"  # pragma: allowlist secret - W3C's example


def run_of(hours=0, name=None):
    """Return the run of the hour that is now, or of one so many hours later."""
    window = Window.of_hour(NOW + hours * HOUR)
    return Run(name or f"scheduled__{window.start.isoformat()}", window, moves_watermark=True)


def value(plain):
    """Return an attribute's value as OTLP writes it."""
    if isinstance(plain, int):
        return {"intValue": str(plain)}
    if isinstance(plain, list):
        return {"arrayValue": {"values": [value(each) for each in plain]}}
    return {"doubleValue": plain} if isinstance(plain, float) else {"stringValue": plain}


def span(number, parent=None, *, minutes=5, status=1, events=(), **attributes):
    """Return a span of one second; attributes say `_` for `.`, and begin with gen_ai."""
    start = int((NOW + timedelta(minutes=minutes)).timestamp()) * 1_000_000_000
    return {
        "traceId": TRACE,
        "spanId": f"{number:016x}",
        **({"parentSpanId": f"{parent:016x}"} if parent else {}),
        "name": "a name",
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 1_000_000_000),
        "status": {"code": status},
        "attributes": [
            {"key": key.replace("__", "."), "value": value(plain)}
            for key, plain in attributes.items()
        ],
        "events": list(events),
    }


def call(number, parent=None, tokens=(10, 4), **more):
    """Return a span of a call with its tokens."""
    usage = {
        "gen_ai__usage__input_tokens": tokens[0],
        "gen_ai__usage__output_tokens": tokens[1],
    }
    return span(number, parent, gen_ai__request__model="gpt-4o", **usage, **more)


def request(*spans):
    """Return a line of a Collector's file."""
    scope = {"scope": {"name": "s"}, "spans": list(spans)}
    return json.dumps({"resourceSpans": [{"resource": {}, "scopeSpans": [scope]}]}).encode() + b"\n"


class Spans:
    """A folder or bucket of spans, read and published by one run after another."""

    def __init__(self, place):
        self.place, self.runs = place, 0

    def __setitem__(self, name, content):
        self.place.put(name, content)

    def read(self, contract=GENERATIONS, run=None):
        """Publish what is due; return the reasons of what is refused."""
        self.runs += 1
        run = run or run_of(0, f"manual__{self.runs}")
        extract_spans(contract, self.place.root_of(PURPOSE), run)
        with connect() as connection:
            refused = connection.execute(
                f"select reason from ({staged_refusals(run, contract.name)}) order by all"
            ).fetchall()
        publish(run, contract.name)
        return [reason for (reason,) in refused]


@pytest.fixture
def spans(logs):
    """Return an empty place for spans."""
    return Spans(logs)


def rows(columns, contract=GENERATIONS):
    """Return the newest versions that are not deleted."""
    table = open_table(contract.name)
    (key,) = contract.key
    with connect() as connection:
        return connection.execute(
            f"select {columns} from (from ({scan(table, contract.name)}) qualify row_number() over "
            f"(partition by {key} order by updated_at desc, _row_hash desc) = 1) "
            f"where not _is_deleted order by {key}"
        ).fetchall()


def test_of_nested_spans_with_the_same_tokens_the_innermost_is_the_call(spans):
    """Agent, framework and client each report them; a span between has none."""
    spans["traces.jsonl"] = request(
        span(1, gen_ai__operation__name="invoke_agent", gen_ai__usage__input_tokens=20),
        call(2, 1, gen_ai__system="gcp.vertex.agent"),
        span(3, 2, http__method="POST"),
        call(4, 3, gen_ai__provider__name="openai", gen_ai__operation__name="chat"),
        call(5, 1, tokens=(20, 8)),
    )
    assert spans.read() == []
    assert rows("generation_id, provider_id, prompt_tokens, completion_tokens, status") == [
        (f"{TRACE}:{4:016x}", "openai", 10, 4, "succeeded"),
        (f"{TRACE}:{5:016x}", None, 20, 8, "succeeded"),
    ]


def test_the_order_of_lines_and_files_does_not_matter(spans):
    """The inner span stands in another file, before or after."""
    spans["b.jsonl"] = request(call(2, 1)) + request(call(4, 3))
    spans["folder/a.jsonl.gz"] = gzip.compress(request(call(1)) + request(span(3, 2)))
    spans.read()
    assert rows("generation_id") == [(f"{TRACE}:{4:016x}",)]


def test_a_call_that_fails_without_tokens_is_a_row_with_its_error(spans):
    """Its client's span is the same call; an agent around two calls is none of them."""
    error = {"status": 2, "gen_ai__operation__name": "chat", "error__type": "timeout"}
    spans["traces.jsonl"] = request(
        call(1, gen_ai__operation__name="chat", tokens=(30, 12)),
        call(2, 1),
        span(3, 1, **error),
        span(4, 3, **error),
        call(5, tokens=(7, 7)),
        span(6, 5, gen_ai__operation__name="chat"),
    )
    spans.read()
    assert rows("generation_id, status, error_code, prompt_tokens") == [
        (f"{TRACE}:{2:016x}", "succeeded", None, 10),
        (f"{TRACE}:{4:016x}", "failed", "timeout", None),
        (f"{TRACE}:{5:016x}", "succeeded", None, 7),
    ]


def test_a_call_that_came_before_its_inner_span_is_taken_back(spans):
    """A second run sees both; a third changes nothing."""
    spans["a.jsonl"] = request(call(1))
    spans.read()
    assert rows("generation_id") == [(f"{TRACE}:{1:016x}",)]
    spans["b.jsonl"] = request(call(2, 1))
    for _ in range(2):
        spans.read()
        assert rows("generation_id") == [(f"{TRACE}:{2:016x}",)]
    with connect() as connection:
        versions = scan(open_table(GENERATIONS.name), GENERATIONS.name)
        assert connection.execute(f"select count(*) from ({versions})").fetchone() == (3,)


def test_a_file_that_grows_is_read_to_its_last_whole_line(spans):
    """Half a line is left until it is whole; a bad line in the middle is refused."""
    spans["a.jsonl"] = request(call(1)) + b"no json\n" + request(call(2))[:50]
    assert spans.read() == ["malformed_line"]
    assert len(rows("generation_id")) == 1
    spans["a.jsonl"] = request(call(1)) + b"no json\n" + request(call(2))
    assert spans.read() == []
    assert len(rows("generation_id")) == 2


def test_what_happened_after_the_window_is_left_to_its_hour(spans):
    """And nothing is read twice."""
    spans["a.jsonl"] = request(call(1), call(2, minutes=65))
    spans.read(run=run_of())
    assert len(rows("generation_id")) == 1
    spans.read(run=run_of(1))
    assert len(rows("generation_id")) == 2


def test_both_generations_of_names_and_openinference_are_read(spans):
    """Names up to 1.36, those since, and `llm.…`."""
    spans["a.jsonl"] = request(
        span(
            1,
            gen_ai__system="openai",
            gen_ai__usage__prompt_tokens=1,
            gen_ai__usage__completion_tokens=2,
            gen_ai__request__model="old",
        ),
        call(
            2,
            gen_ai__provider__name="anthropic",
            gen_ai__response__model="new",
            gen_ai__response__finish_reasons=["content_filter"],
            gen_ai__response__time_to_first_chunk=0.25,
            gen_ai__conversation__id="c1",
        ),
        span(
            3,
            openinference__span__kind="LLM",
            llm__model_name="oi",
            llm__system="openai",
            llm__token_count__prompt=3,
            llm__token_count__completion=4,
            llm__cost__total=0.5,
            session__id="s1",
        ),
        span(4, openinference__span__kind="CHAIN", llm__token_count__prompt=3),
    )
    spans.read()
    columns = "provider_id, model_id, prompt_tokens, completion_tokens, session_id, status"
    assert rows(columns) == [
        ("openai", "old", 1, 2, None, "succeeded"),
        ("anthropic", "new", 10, 4, "c1", "filtered"),
        ("openai", "oi", 3, 4, "s1", "succeeded"),
    ]
    assert rows("latency_ms, ttft_ms, cost_usd::double")[1:] == [
        (1000.0, 250.0, None),
        (1000.0, None, 0.5),
    ]


def test_an_operation_that_we_do_not_know_is_a_call_if_it_bears_tokens(spans):
    """Instrumentations have names of their own; agents and tools are known."""
    spans["a.jsonl"] = request(
        call(1, gen_ai__operation__name="responses"),
        call(2, gen_ai__operation__name="invoke_agent"),
        span(3, gen_ai__operation__name="rerank"),
        span(4, openinference__span__kind="AGENT", llm__token_count__prompt=3),
        span(5, openinference__span__kind="COMPLETION", llm__token_count__prompt=3),
    )
    spans.read()
    assert rows("generation_id") == [(f"{TRACE}:{1:016x}",), (f"{TRACE}:{5:016x}",)]


def test_the_newer_answer_of_tempo_and_the_console_of_python_are_read(spans):
    """One wraps the request; the other names ids, times and status in its own way."""
    spans["tempo.json"] = json.dumps({"trace": json.loads(request(call(1)))}, indent=2).encode()
    flat = {
        "name": "a name",
        "context": {"trace_id": f"0x{TRACE}", "span_id": f"0x{2:016x}", "trace_state": "[]"},
        "parent_id": f"0x{1:016x}",
        "start_time": (NOW + timedelta(minutes=5)).isoformat().replace("+00:00", "Z"),
        "end_time": (NOW + timedelta(minutes=5, seconds=2)).isoformat().replace("+00:00", "Z"),
        "status": {"status_code": "ERROR"},
        "attributes": {"gen_ai.usage.input_tokens": 3, "error.type": "timeout"},
    }
    spans["console.jsonl"] = json.dumps(flat).encode() + b"\n"
    spans.read()
    assert rows("generation_id, latency_ms, status, error_code, prompt_tokens") == [
        (f"{TRACE}:{2:016x}", 2000.0, "failed", "timeout", 3)
    ]


def test_tokens_that_are_written_as_fractions_count(spans):
    """As JavaScript and data frames write whole numbers."""
    spans["a.jsonl"] = request(call(1, tokens=(10.0, 4.0)), call(2, tokens=("7", 2.5)))
    spans.read()
    assert rows("prompt_tokens, completion_tokens") == [(10, 4), (7, None)]


def test_a_document_of_another_tool_is_told(spans):
    """Metrics are another signal of the same exporter, and no fault."""
    spans["jaeger.json"] = b'{"data": [{"traceID": "1", "spans": [{"spanID": "2"}]}]}'
    spans["metrics.jsonl"] = b'{"resourceMetrics": []}\n'
    spans["a.jsonl"] = request(call(1))
    assert spans.read() == ["malformed_line"]


def test_calls_without_ids_are_told_apart_and_read_once(spans):
    """All zeros is no id; the same spans in a second file are the same calls."""
    one, other = (call(1, tokens=tokens) for tokens in ((1, 1), (2, 2)))
    for each in (one, other):
        each.update(traceId="0" * 32, spanId="0" * 16)
    spans["a.jsonl"] = request(one, other)
    spans["b.jsonl"] = request(other)
    spans.read()
    assert sorted(rows("prompt_tokens")) == [(1,), (2,)]


def test_a_call_without_ids_keeps_its_key(spans):
    """It is that of earlier versions: else each lookback would publish it again."""
    nameless = call(1, gen_ai__response__time_to_first_chunk=0.25, llm__cost__total=0.5)
    del nameless["traceId"]
    spans["a.jsonl"] = request(nameless)
    spans.read()
    start, end = (int(nameless[f"{name}TimeUnixNano"]) for name in ("start", "end"))
    facts = (True, None, None, None, None, "gpt-4o", 10, 4, 250.0, "succeeded", None, "0.500000000")
    assert rows("generation_id") == [(identity("otel", start, end, *facts),)]


@pytest.mark.parametrize("logs", ["folder"], indirect=True)
def test_a_span_that_can_not_be_read_is_refused_alone(spans):
    """The others of its line are calls; what JSON lacks and some write is nothing."""
    line = request(call(1), {"spanId": "2", "attributes": "none"}, call(3, llm__cost__total=0.5))
    spans["a.jsonl"] = line + b'{"spans": [5, {"attributes": [1]}]}\n' + request(call(4))
    spans["b.jsonl"] = request(call(5, gen_ai__system="\u00e9")).replace(b"\\u00e9", b"\xff")
    spans["c.jsonl"] = request(call(6, llm__cost__total=0.25)).replace(b"0.25", b"NaN")
    assert spans.read() == ["malformed_span"] * 4
    assert [key[-1:] for (key,) in rows("generation_id")] == ["1", "3", "4", "6"]


@pytest.mark.parametrize("logs", ["folder"], indirect=True)
@pytest.mark.parametrize(
    ("time", "milliseconds"),
    [
        (lambda start: start + 2.5, None),
        (lambda start: [start, 500_000_000], 500.0),
        (lambda start: str(start * 1_000_000_000 + 1_000_000), 1.0),
        (lambda start: datetime.fromtimestamp(start + 3, UTC).isoformat(), 3000.0),
        (lambda start: datetime.fromtimestamp(start + 3, UTC).isoformat()[:19], None),
        (lambda _: [10**30, 0], None),
        (lambda _: "0", None),
    ],
)
def test_times_are_read_in_each_form(spans, time, milliseconds):
    """A number, a pair, a text; one without a zone, or too large, is none."""
    start = int((NOW + timedelta(minutes=5)).timestamp())
    flat = {"trace_id": TRACE, "span_id": "1", "start_time": start * 10**9, "end_time": time(start)}
    spans["a.jsonl"] = json.dumps({**flat, "attributes": {"llm.token_count.prompt": 3}}).encode()
    spans.read()
    assert rows("latency_ms, prompt_tokens") == [(milliseconds, 3)]


def test_a_call_without_a_time_is_refused(spans):
    """It belongs to no hour."""
    timeless = call(1)
    del timeless["startTimeUnixNano"], timeless["endTimeUnixNano"]
    spans["a.jsonl"] = request(timeless, call(2))
    assert spans.read() == ["span_without_time"]
    assert spans.read() == []
    assert len(rows("generation_id")) == 1


def test_results_of_evaluations_are_read_from_events_and_log_records(spans):
    """Only a label that says so is a judgement; the call's model is known from its span."""

    def result(name, score, label):
        found = {"gen_ai.evaluation.name": name, "gen_ai.evaluation.score.label": label}
        listed = [{"key": key, "value": value(text)} for key, text in found.items()]
        listed.append({"key": "gen_ai.evaluation.score.value", "value": value(score)})
        time = span(1)["endTimeUnixNano"]
        return {"name": "gen_ai.evaluation.result", "timeUnixNano": time, "attributes": listed}

    event = result("Relevance", 0.75, "pass")
    record = {**result("Toxicity", 0.1, "high"), "traceId": TRACE, "spanId": f"{1:016x}"}
    record["eventName"] = record.pop("name")
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    spans["traces.jsonl"] = request(call(1, events=[event], gen_ai__system="openai"))
    spans["logs.jsonl"] = json.dumps(logs).encode() + b"\n"
    for _ in range(2):
        spans.read(EVALUATIONS)
    found = rows("judge, score, passes, undetermined, model_id, provider_id", EVALUATIONS)
    assert sorted(found) == [
        ("Relevance", 0.75, 1, 0, "gpt-4o", "openai"),
        ("Toxicity", 0.1, None, 1, None, None),
    ]


@pytest.mark.parametrize("logs", ["folder"], indirect=True)
def test_real_spans_give_the_calls_that_are_known(spans, traces_folder: Path):
    """Tokens are those of each file; of Tempo's, those of its two calls and not of six spans."""
    declared = json.loads((traces_folder / "otel-genai" / "declared.json").read_text())
    expected = {
        name: (says["input_tokens_over_all_spans"], says["output_tokens_over_all_spans"])
        for name, says in declared.items()
    }
    expected["tempo-export-batches.json"] = (4_648, 129)
    for name, tokens in expected.items():
        spans.place.empty()
        spans[name] = (traces_folder / "otel-genai" / name).read_bytes()
        known = set(rows("generation_id")) if open_table(GENERATIONS.name) else set()
        refused = spans.read()
        new = [
            row
            for row in rows("generation_id, prompt_tokens, completion_tokens")
            if (row[0],) not in known
        ]
        sums = tuple(sum(row[place] or 0 for row in new) for place in (1, 2))
        if "openinference" in name:  # one span without a time each
            assert (refused, new) == (["span_without_time"], [])
        else:
            assert (sums, refused) == (tokens, []), name
