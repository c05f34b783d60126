"""Results of promptfoo: a failed assertion is no error, and only a red team attacks."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from include.chimera.sources.reports.evaluations import Evaluation, FileFault, RefusedRecord
from include.chimera.sources.reports.promptfoo import provider_and_model
from tests.reading import WRITTEN, evaluations, found, lines


def promptfoo(results: list[dict[str, object]], version: object = 3) -> bytes:
    """Return a result file of version 3, or of another that has its shape."""
    inner = {"version": version, "timestamp": "2026-02-01T10:00:00.000Z", "results": results}
    about = {"promptfooVersion": "0.121.2"}
    return json.dumps({"evalId": "eval-1", "results": inner, "metadata": about}).encode()


def result(**columns: object) -> dict[str, object]:
    """Return a failed test of promptfoo."""
    return {
        "id": "r1",
        "success": False,
        "score": 0,
        "error": "Expected output to contain a text",
        "failureReason": 1,
        "gradingResult": {"pass": False, "componentResults": [{"assertion": {"type": "regex"}}]},
        "provider": {"id": "openai:chat:gpt-4o"},
        "response": {"tokenUsage": {"prompt": 3, "completion": 4, "cached": 5, "total": 12}},
        "cost": 4.6499999999999995e-06,
        **columns,
    }


def test_promptfoo_failed_assertion_is_no_error(tmp_path: Path) -> None:
    """`error` is filled for it all the same; only failureReason 2 is one."""
    rows = [result(), result(id="r2", failureReason=2)]
    failed, broken = evaluations(found(tmp_path, promptfoo(rows)))
    assert (failed.status, failed.successes, failed.passes, failed.errors) == ("completed", 1, 0, 0)
    assert (broken.status, broken.successes, broken.passes, broken.errors) == (
        "error",
        None,
        None,
        1,
    )
    assert (failed.prompt_tokens, failed.completion_tokens, failed.cached_tokens) == (3, 4, 5)
    assert (failed.judge, failed.cost_usd) == ("regex", Decimal("0.000004650"))


def test_promptfoo_before_version_3_tells_an_error_by_the_missing_grading(tmp_path: Path) -> None:
    """The list of results stands at the top, with neither ids nor failureReason."""
    graded = result(id=None, failureReason=None)
    broken = result(id=None, failureReason=None, gradingResult=None, response=None)
    content = json.dumps({"version": 2, "results": [graded, broken], "stats": {}}).encode()
    one, other = evaluations(found(tmp_path, content))
    assert (one.status, other.status) == ("completed", "error")
    assert one.evaluation_id != other.evaluation_id


def test_promptfoo_red_team_test_is_an_attack(tmp_path: Path) -> None:
    """Strategy and plugin are technique and behaviour; any other test is no attack."""
    attack = result(metadata={"pluginId": "harmful:privacy", "strategyId": "jailbreak"})
    inherited = result(id="r2", testCase={"metadata": {"pluginId": "pii"}})
    one, two, other = evaluations(
        found(tmp_path, promptfoo([attack, inherited, result(id="r3", testIdx=4)]))
    )
    assert (one.technique, one.behaviour_id) == ("jailbreak", "harmful:privacy")
    assert (two.technique, two.behaviour_id) == ("pii", "pii")
    assert (one.evaluation_kind, two.evaluation_kind) == ("attack", "attack")
    assert (other.evaluation_kind, other.technique) == ("benchmark", None)
    assert other.behaviour_id == "test 4"


def test_promptfoo_of_an_unknown_version_is_refused_by_name(tmp_path: Path) -> None:
    """Versions 4 and none at all."""
    assert found(tmp_path, promptfoo([], version=4)) == [FileFault("unknown_version")]
    assert found(tmp_path, promptfoo([], version=None)) == [FileFault("unknown_version")]


def test_promptfoo_row_that_says_no_outcome_is_refused_alone(tmp_path: Path) -> None:
    """An absent `success` is not a failure."""
    items = found(tmp_path, promptfoo([result(success=None), result()]))
    assert [type(item) for item in items] == [RefusedRecord, Evaluation]


def test_promptfoo_json_lines_are_read(tmp_path: Path) -> None:
    """One result a line, as `--output results.jsonl` writes it."""
    rows = [result(id=None, testIdx=index, promptIdx=0) for index in range(2)]
    one, other = evaluations(found(tmp_path, lines(rows)))
    assert one.evaluation_id != other.evaluation_id
    assert one.created_at == WRITTEN


def test_promptfoo_row_is_the_same_in_json_and_in_json_lines(tmp_path: Path) -> None:
    """One run may write both; its rows have ids of their own."""
    row = result(id="1607b56f-908a-48ad-a372-9fbf7f18bd74")
    (one,) = evaluations(found(tmp_path, promptfoo([row])))
    (other,) = evaluations(found(tmp_path, lines([{**row, "promptIdx": 0, "testIdx": 0}])))
    assert one.evaluation_id == other.evaluation_id


def test_promptfoo_json_lines_that_end_within_one_are_still_being_written(tmp_path: Path) -> None:
    """It appends each result as it comes."""
    rows = lines([result(id=None, testIdx=index, promptIdx=0) for index in range(2)])
    assert found(tmp_path, rows[:-9])[-1] == FileFault("unfinished_run", 1)


def test_promptfoo_target_that_is_no_model_has_its_label(tmp_path: Path) -> None:
    """A red team's target is an address, of which nothing is stored, and has a name."""
    target = {"id": "https://user@host/chat", "label": "support-bot"}
    (row,) = evaluations(found(tmp_path, promptfoo([result(provider=target)])))
    assert (row.provider_id, row.model_id) == ("https", "support-bot")


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("openai:gpt-4o", ("openai", "gpt-4o")),
        ("openai:chat:gpt-4o", ("openai", "gpt-4o")),
        ("ollama:chat:llama3:8b", ("ollama", "llama3:8b")),
        ("bedrock:anthropic.claude-v2:1", ("bedrock", "anthropic.claude-v2:1")),
        ("My custom function", (None, "My custom function")),
        ("https://user:secret@host/x", ("https", None)),  # pragma: allowlist secret - made up
        ("file://provider.js", ("file", None)),
        ("./provider.js", ("file", None)),
        (None, (None, None)),
    ],
)
def test_promptfoo_provider_is_taken_apart(
    provider: object, expected: tuple[str | None, str | None]
) -> None:
    """A path or URL, which may hold a secret, stays out."""
    assert provider_and_model(provider) == expected
