"""Messages name what happened, and nothing that must not leave the machine."""

from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter

from include.chimera.alerts import messages
from include.chimera.alerts.causes import STEPS, Fault
from include.chimera.alerts.messages import Affected, Message
from include.chimera.alerts.rendering import email, slack
from include.chimera.errors import ChimeraError, ShrinkError, SourceUnavailableError
from include.chimera.lake.staged.verdicts import RuleResult, Verdict
from include.chimera.window import Run, Window

RUN = Run("scheduled__2026-03-01", Window.of_hour(datetime(2026, 3, 1, 9, tzinfo=UTC)))
PARTS = {"expected": "rows", "came": "none", "where": "app.generations", "remedy": "look"}


def test_failure_names_task_error_table_version_and_correlation_id() -> None:
    affected = Affected("bronze.generations", 7, ("gold.fct_generations",))
    fault = Fault.of(SourceUnavailableError(**PARTS))
    message = messages.failure(RUN, "k", "extract_generations", fault, affected)
    facts = dict(message.facts)
    assert facts["live version"] == "bronze.generations stays at version 7"
    assert facts["not updated"] == "gold.fct_generations"
    assert facts["correlation id"] == RUN.correlation_id
    assert message.steps == STEPS[SourceUnavailableError]


def test_a_foreign_errors_text_is_not_told() -> None:
    """It may hold a row or a password."""
    fault = Fault.of(ValueError("password=hunter2"))
    assert fault.facts() == [("error", "ValueError")]


def test_our_error_behind_airflows_is_what_is_told() -> None:
    error = RuntimeError()
    error.__cause__ = ShrinkError(**PARTS)
    fault = Fault.of(error)
    assert fault.name == "ShrinkError"
    assert fault.steps == STEPS[ShrinkError]


def test_every_class_of_ours_has_steps() -> None:
    """Each error has its own steps or those of one of the three classes."""
    found, todo = [], [ChimeraError]
    while todo:
        todo += (subclasses := todo.pop().__subclasses__())
        found += subclasses
    assert all(any(base in STEPS for base in each.__mro__) for each in found)


def test_gate_failure_names_rules_and_counts() -> None:
    broken = RuleResult("latency_positive", "critical", False, 1000, 50)
    verdict = Verdict(
        table="bronze.generations",
        run_id=RUN.run_id,
        window=RUN.window,
        moves_watermark=True,
        results=(broken,),
        rows=1000,
        rows_refused=50,
        failed_rules=("latency_positive",),
        seconds=1.0,
        validated_at=RUN.window.end,
    )
    message = messages.gate_failure(
        RUN, "k", verdict, {"latency_positive": "Mend it."}, Affected("bronze.generations")
    )
    facts = dict(message.facts)
    assert facts["broken rules"] == "latency_positive (50 of 1,000 rows)"
    assert facts["live version"] == "bronze.generations stays at no version yet"
    assert message.steps[0] == "Mend it."


@pytest.mark.parametrize("text", ["<!channel> & <b>", "x" * 9000])
def test_renderings_escape_and_fit(text: str) -> None:
    """A name in a message is not markup, and Slack refuses blocks that are too long."""
    message = Message("failure", "k", text, (("name", text),), (text,), "http://x/?a=1&b=2")
    body = slack(message)
    assert all(len(block["text"]["text"]) <= 3000 for block in body["blocks"])
    assert "<!channel>" not in body["blocks"][1]["text"]["text"]
    assert "<b>" not in email(message)[1]


def test_message_survives_json() -> None:
    message = Message("late", "k", "t", (("a", "b"),), ("c",))
    kept = TypeAdapter(Message)
    assert kept.validate_json(kept.dump_json(message)) == message
    assert message.message_id != Message("failure", "k", "t", ()).message_id
