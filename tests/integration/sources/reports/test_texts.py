"""No text of a report or span enters: a canary in each of them is in no row, letter or log."""

import io
import json
import logging
import zipfile
from zoneinfo import ZoneInfo

import pytest

from include.chimera.contracts import EVALUATIONS, GENERATIONS
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.sources.otel.extract import PURPOSE as SPANS
from include.chimera.sources.otel.extract import extract_spans
from include.chimera.sources.reports.extract import PURPOSE, extract_reports
from include.chimera.window import Run, Window
from tests.integration.ingest.pipeline import publish
from tests.integration.log_places import Folder
from tests.integration.sources.reports.test_reports import NOW
from tests.reading import END, GARAK, garak_eval, lines

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]
CANARY = "canary 4711\nof a text, which no name holds"
RUN = Run("scheduled__texts", Window(NOW, NOW.replace(year=NOW.year + 1)), moves_watermark=True)


def turn():
    """Return a prompt or an output, as garak writes it."""
    return {"turns": [{"role": "user", "content": {"text": CANARY, "notes": {"x": CANARY}}}]}


def garak():
    """Return a report with a canary in each text, and lines that are refused."""
    attempt = {
        "entry_type": "attempt",
        "status": 2,
        "probe_classname": "spo.SPO",
        "probe_params": {"stub": CANARY},
        "targets": [CANARY],
        "prompt": turn(),
        "outputs": [{"text": CANARY}],
        "detector_results": {"judge": [0.0]},
        "notes": {"triggers": [CANARY], "system_prompt": CANARY},
        "goal": CANARY,
        "intent": CANARY,
        "conversations": [turn()],
        "reverse_translation_outputs": [{"text": CANARY}],
    }
    setup = {**GARAK[0], "run.system_prompt": CANARY, "plugins.probe_spec": CANARY}
    bad = {**attempt, "probe_classname": CANARY}
    entries = [setup, GARAK[1], attempt, bad, garak_eval(notes=CANARY), garak_eval(probe=CANARY)]
    digest = {"entry_type": "digest", "meta": {"doc": CANARY}, "eval": {CANARY: CANARY}}
    return lines([*entries, END, digest]) + f'{{"entry_type": "{CANARY}'.encode() + b"\n"


def promptfoo():
    """Return results with a canary in each text: prompts, variables, answers, reasons, headers."""
    texts = dict.fromkeys(("raw", "label", "template", "display"), CANARY)
    row = {
        "id": "r1",
        "success": False,
        "score": 0,
        "error": CANARY,
        "failureReason": 1,
        "description": CANARY,
        "namedScores": {CANARY: 1},
        "prompt": texts,
        "vars": {CANARY: CANARY},
        "provider": {"id": "openai:gpt-4o", "label": CANARY, "config": {"headers": CANARY}},
        "response": {"output": CANARY, "raw": CANARY, "metadata": {"http": {"headers": CANARY}}},
        "gradingResult": {
            "reason": CANARY,
            "comment": CANARY,
            "assertion": {"type": "llm-rubric", "value": CANARY},
            "componentResults": [
                {"reason": CANARY, "assertion": {"type": "equals", "value": CANARY}}
            ],
        },
        "testCase": {"description": CANARY, "vars": {"x": CANARY}, "metadata": {"goal": CANARY}},
        "metadata": {"pluginId": "pii", "purpose": CANARY, "redteamHistory": [CANARY]},
    }
    bad = {**row, "success": CANARY}
    other = {**row, "id": CANARY, "provider": f"file://{CANARY}"}
    inner = {"version": 3, "timestamp": CANARY, "prompts": [texts], "results": [row, bad, other]}
    config = {"description": CANARY, "prompts": [CANARY], "env": {"KEY": CANARY}}
    return json.dumps(
        {"evalId": "e", "results": inner, "config": config, "author": CANARY}
    ).encode()


def inspect_log():
    """Return a log with a canary in each text: input, target, answers, explanations, errors."""
    sample = {
        "id": 1,
        "epoch": 1,
        "uuid": "a",
        "input": CANARY,
        "choices": [CANARY],
        "target": CANARY,
        "messages": [{"role": "user", "content": CANARY}],
        "output": {"choices": [{"message": {"content": CANARY}}]},
        "scores": {"match": {"value": "C", "answer": CANARY, "explanation": CANARY}},
        "metadata": {"text": CANARY},
        "store": {"text": CANARY},
        "events": [{"event": CANARY}],
        "attachments": {"x": CANARY},
    }
    graded = {**sample, "uuid": "b", "id": CANARY, "scores": {"grade": {"value": CANARY}}}
    failed = {
        **sample,
        "uuid": "c",
        "error": {"message": CANARY, "traceback": CANARY},
        "scores": {},
    }
    about = {"eval_id": "e", "task": "t", "model": "openai/gpt-4o", "task_args": {"x": CANARY}}
    return {
        "version": 2,
        "status": "success",
        "eval": {**about, "metadata": {"x": CANARY}, "tags": [CANARY], "created": CANARY},
        "plan": {"steps": [{"params": {"template": CANARY}}]},
        "samples": [sample, graded, failed, {"scores": CANARY}],
        "error": {"message": CANARY},
        "reductions": [{"samples": [{"answer": CANARY}]}],
    }


def archive(log):
    """Return the log in the form of `.eval`."""
    target = io.BytesIO()
    samples = log.pop("samples")
    with zipfile.ZipFile(target, "w") as file:
        file.writestr("_journal/start.json", json.dumps({"x": CANARY}))
        for number, sample in enumerate(samples):
            file.writestr(f"samples/{number}_epoch_1.json", json.dumps(sample))
        file.writestr("summaries.json", json.dumps(samples))
        file.writestr("header.json", json.dumps({**log, "eval": {**log["eval"], "eval_id": "z"}}))
    return target.getvalue()


def avid():
    """Return reports with a canary in each text."""
    text = {"lang": "eng", "value": f"The model was evaluated using the probe `dan.Dan`. {CANARY}"}
    good = {"detector": "d", "passed": 1, "total_evaluated": 1, "score": 100.0}
    report = {
        "data_type": "AVID",
        "metadata": {"x": CANARY},
        "affects": {"developer": [CANARY], "deployer": [CANARY], "artifacts": [{"name": CANARY}]},
        "problemtype": {"classof": CANARY, "description": text},
        "metrics": [{"name": CANARY, "results": {"rows": [good, {**good, "score": 1.0}]}}],
        "references": [{"label": CANARY, "url": CANARY}],
        "description": {"value": CANARY},
        "impact": {"avid": {"risk_domain": [CANARY]}},
        "credit": [CANARY],
        "reported_date": CANARY,
    }
    return lines([report, {**report, "problemtype": {"description": {"value": CANARY}}}])


def spans():
    """Return spans with a canary in each text, by all names of texts."""
    names = (
        *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"),
        *("gen_ai.prompt", "gen_ai.completion", "gen_ai.prompt.0.content", "input.value"),
        *("output.value", "llm.input_messages.0.message.content", "llm.prompts", "tag.tags"),
        *("gen_ai.tool.call.arguments", "gen_ai.evaluation.explanation", "exception.message"),
        *("http.request.header.authorization", "llm.invocation_parameters", "metadata"),
    )
    texts = [{"key": name, "value": {"stringValue": CANARY}} for name in names]
    usage = [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "3"}}]
    odd = [
        {"key": name, "value": {"stringValue": CANARY}}
        for name in ("gen_ai.request.model", "gen_ai.system", "user.id", "error.type")
    ]
    time = str(int(NOW.timestamp()) * 1_000_000_000 + 60_000_000_000)
    result = [{"key": "gen_ai.evaluation.name", "value": {"stringValue": "Relevance"}}]
    label = [{"key": "gen_ai.evaluation.score.label", "value": {"stringValue": CANARY}}]
    events = [
        {
            "name": "gen_ai.evaluation.result",
            "timeUnixNano": time,
            "attributes": result + texts + label,
        },
        {"name": CANARY, "timeUnixNano": time, "attributes": texts},
    ]
    each = {"traceId": "a" * 32, "name": CANARY, "status": {"code": 2, "message": CANARY}}
    times = {"startTimeUnixNano": time, "endTimeUnixNano": time}
    found = [
        {
            **each,
            **times,
            "spanId": "1" * 16,
            "attributes": [*texts, *usage, *odd],
            "events": events,
        },
        {**each, "spanId": "2" * 16, "attributes": [*texts, *usage]},
    ]
    resource = {"resource": {"attributes": texts}, "scopeSpans": [{"spans": found}]}
    return lines([{"resourceSpans": [resource]}]) + f'{{"name": "{CANARY}\n'.encode()


def stored():
    """Return all that the lake holds, as text."""
    found = ""
    with connect() as connection:
        for name in (EVALUATIONS.name, GENERATIONS.name, "ops.dead_letters"):
            rows = connection.execute(scan(open_table(name), name)).fetchall()
            assert rows
            found += f"{rows}"
    return found


def test_no_text_of_any_format_is_stored_or_told(tmp_path, caplog):
    """Good records, refused ones, unknown files: what is stored of them is numbers and names."""
    caplog.set_level(logging.DEBUG, logger="include")
    place = Folder(tmp_path / "logs")
    for name, content in {
        "r.report.jsonl": garak(),
        "p.json": promptfoo(),
        "i.json": json.dumps(inspect_log()).encode(),
        "i.eval": archive(inspect_log()),
        "a.avid.jsonl": avid(),
        "unfinished.report.jsonl": lines([GARAK[0], garak_eval(probe=CANARY)]),
        "unknown.json": json.dumps({"text": CANARY}).encode(),
        "broken.json": f'{{"eval": "{CANARY}'.encode(),
    }.items():
        place.put(name, content)
    extract_reports(place.root_of(PURPOSE), RUN, ZoneInfo("UTC"))
    publish(RUN, EVALUATIONS.name)
    traces = Folder(tmp_path / "traces")
    traces.put("traces.json", spans())
    for number, contract in enumerate((GENERATIONS, EVALUATIONS)):
        run = Run(f"scheduled__spans_{number}", RUN.window, moves_watermark=True)
        extract_spans(contract, traces.root_of(SPANS), run)
        publish(run, contract.name)
    for told in (stored(), caplog.text):
        assert "canary" not in told.replace(str(tmp_path), "")
        assert "4711" not in told
