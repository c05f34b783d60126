"""No value of a row leaves its table: search all that a gate writes for planted ones."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from include.chimera.cli.app import app
from include.chimera.cli.gates import show_verdict
from include.chimera.contracts import DEAD_LETTERS
from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.errors import ContractError, GateFailedError
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.staged.manifests import load_manifest
from include.chimera.lake.staged.records import read_record, to_json
from include.chimera.lake.staged.verdicts import Verdict
from include.chimera.operations.quality_report import write_report
from include.chimera.quality.acceptance import current_user
from include.chimera.quality.gx.data_docs import build_docs
from include.chimera.quality.quality_results import record_quality
from tests.integration.quality.faults import chosen_rows, put, replaced
from tests.integration.quality.gating import RUN, gated, stage
from tests.integration.quality.hours import bronze_tables

pytestmark = pytest.mark.integration

SECRET, PUBLIC = "canary-4711-alice@example.org", "public-canary"
TABLE = "bronze.generations"


def planted() -> pa.Table:
    """Return rows whose ids, users and models are canaries and break rules of every kind."""
    rows = bronze_tables(GeneratedFeed(1000), RUN.window)[TABLE]
    rows = put("generation_id", SECRET * 3)(rows, chosen_rows(rows, 0.05, 1))
    for column in ("user_id", "session_id", "model_id", "error_code", "_window_hour"):
        rows = put(column, SECRET)(rows, chosen_rows(rows, 0.5, 2))
    rows = put("latency_ms", -4711.4711)(rows, chosen_rows(rows, 0.05, 3))
    return put("status", PUBLIC)(rows, chosen_rows(rows, 0.02, 4))


def retyped() -> pa.Table:
    """Return rows of which a number became text: DuckDB's errors about it quote the text."""
    rows = planted()
    texts = pa.array([SECRET] * rows.num_rows, pa.string())
    return replaced(rows, "prompt_tokens", texts)


@pytest.mark.parametrize("make", [planted, retyped], ids=["broken rows", "retyped column"])
def test_no_value_leaves_the_rows(  # noqa: PLR0913, PLR0917 - each is a place to look at
    lake: Path, tmp_path: Path, caplog, capsys, monkeypatch: pytest.MonkeyPatch, make
) -> None:
    """Messages, logs, XCom, records, history, Data Docs, report, terminal."""
    monkeypatch.setenv("COLUMNS", "300")
    caplog.set_level(logging.INFO)
    stage(RUN, TABLE, make())
    said = []
    with gated(RUN, TABLE) as (gate, verdict):
        with pytest.raises(GateFailedError) as refusal:
            gate.publish()
        show_verdict(verdict, "canaries")
        said += [str(refusal.value), str(verdict.describe_dict())]
    record_quality(RUN)
    build_docs()
    write_report(RUN)
    # The staged files are the rows themselves; their manifest holds the bounds that pruning needs.
    staged = {"stage.json", "batch.json", *(file.path for file in load_manifest(RUN, TABLE).files)}
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name not in staged:
            assert SECRET.encode() not in path.read_bytes(), path
            assert b"4711.4711" not in path.read_bytes(), path
    written = capsys.readouterr()
    said += [caplog.text, written.out, written.err]
    assert not [text for text in said if SECRET in text or "4711.4711" in text or PUBLIC in text]
    assert "not be rendered" not in "".join(
        said
    )  # what GX says of results that Data Docs can't show
    report = (tmp_path / "reports" / "quality.html").read_text()
    assert PUBLIC in report  # the rule about status says that its values may be shown
    assert lake.is_dir()


@pytest.mark.parametrize("sent", ["user-4711", "of user-4711", "x" * 52 + "user-4711"])
def test_an_erasure_reaches_the_examples_of_broken_rules(
    lake: Path, tmp_path: Path, sent: str
) -> None:
    """They are in verdicts and in the report, even if no payload names the subject."""
    rows = planted()
    stage(RUN, TABLE, put("status", sent)(rows, chosen_rows(rows, 0.02, 5)))
    with gated(RUN, TABLE) as (gate, _), pytest.raises(GateFailedError):
        gate.publish()
    record_quality(RUN)
    write_report(RUN)
    erasure = ["dead-letters", "erase", "user-4711", "--reason", "request 7", "--yes"]
    assert "1 examples of broken rules erased" in CliRunner().invoke(app, erasure).output
    staged = {"stage.json", "batch.json", *(file.path for file in load_manifest(RUN, TABLE).files)}
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name not in staged:
            assert b"user-4" not in path.read_bytes(), path
    assert PUBLIC in to_json(read_record(RUN, TABLE, Verdict)), "of others they stay"
    assert PUBLIC in Path(write_report(RUN)).read_text()
    assert "0 examples" in CliRunner().invoke(app, erasure).output
    assert lake.is_dir()


@pytest.mark.usefixtures("lake")
def test_an_erasure_of_examples_asks_spares_others_and_is_recorded() -> None:
    """Part of a name does not match; who erased and why is recorded even without a letter."""
    rows = planted()
    stage(RUN, TABLE, put("status", "of user-4711")(rows, chosen_rows(rows, 0.02, 5)))
    with gated(RUN, TABLE) as (gate, _), pytest.raises(GateFailedError):
        gate.publish()
    record_quality(RUN)
    report = write_report(RUN)
    erasure = ["dead-letters", "erase", "--reason", "request 7"]
    for other in ("r-4711", "user-47", "user-47110", "USER-4711"):
        assert "0 examples" in CliRunner().invoke(app, [*erasure, other]).output
    for answer in ("", "n\n"):
        asked = CliRunner().invoke(app, [*erasure, "user-4711"], input=answer)
        assert (asked.exit_code, "1 examples" in asked.output) == (1, True)
    assert "user-4711" in Path(report).read_text()
    assert CliRunner().invoke(app, [*erasure, "user-4711"], input="y\n").exit_code == 0
    told = open_table(DEAD_LETTERS.name).history(1)[0]
    assert (told["erased_by"], told["reason"]) == (current_user(), "request 7")
    assert (told["payloads_erased"], told["examples_erased"]) == ("0", "1")
    assert not Path(report).exists()


def test_messages_about_unreadable_rows_name_column_and_types_alone(lake: Path) -> None:
    """What DuckDB says of a failed conversion holds the text that it could not convert."""
    del lake
    stage(RUN, TABLE, retyped())
    with gated(RUN, TABLE) as (gate, verdict):
        gate.checked.verdict = replace(verdict, accepted_by="ada")
        retyped_column = "column prompt_tokens of VARCHAR, not BIGINT"
        with pytest.raises(ContractError, match=retyped_column) as error:
            gate.publish()
    assert SECRET not in str(error.value)
