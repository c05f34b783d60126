"""A person stops publishing, resumes it, restores a table: the effect on the data."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from include.chimera.cli.app import app
from include.chimera.contracts import GENERATIONS
from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.errors import ControlRefusedError, PublishingStoppedError
from include.chimera.lake.delta.commits import Change, commit
from include.chimera.lake.delta.lineage import consumed_mark, identity_of, plan
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import create_table, open_table
from include.chimera.lake.publish.bronze_publisher import WATERMARK
from include.chimera.operations.manual_controls import restore, resume_publishing, stop_publishing
from include.chimera.operations.replay import replay
from include.chimera.window import HOUR as ONE_HOUR
from include.chimera.window import hour_label
from tests.builders import HOUR, generations, publish, run_of
from tests.integration.quality.gating import RUN, gated, stage
from tests.integration.quality.hours import bronze_tables

if TYPE_CHECKING:
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from tests.versions import Versions

pytestmark = pytest.mark.integration
TABLE = GENERATIONS.name


def test_stopped_gates_refuse_until_publishing_is_resumed(lake: Path) -> None:
    """The verdict is recorded, nothing is committed; the same files are published afterwards."""
    stage(RUN, TABLE, bronze_tables(GeneratedFeed(500), RUN.window)[TABLE])
    stop_publishing("The judge's  model\nwas wrong")
    with (
        gated(RUN, TABLE) as (gate, verdict),
        pytest.raises(PublishingStoppedError, match="The judge's model was wrong") as error,
    ):
        gate.publish()
    assert verdict.success
    assert "live version is unchanged" in error.value.where
    assert "resume-publishing" in error.value.remedy
    assert open_table(TABLE) is None
    with pytest.raises(PublishingStoppedError):
        replay()
    resume_publishing("It is mended")
    with gated(RUN, TABLE) as (gate, _):
        gate.publish()
    assert open_table(TABLE).history(1)[0]["run_id"] == RUN.run_id
    kept = json.loads((lake / "_controls/publishing.json").read_text())
    assert [each["reason"] for each in kept] == ["The judge's model was wrong", "It is mended"]
    assert all(each["decided_by"] and each["decided_at"] for each in kept)


@pytest.mark.usefixtures("lake")
def test_a_switch_that_changes_nothing_is_refused() -> None:
    with pytest.raises(ControlRefusedError, match="never stopped"):
        resume_publishing("why not")
    with pytest.raises(ControlRefusedError, match="an empty one"):
        stop_publishing("  \n")
    stop_publishing("why")
    with pytest.raises(ControlRefusedError, match=r"publishing stopped by .* why"):
        stop_publishing("why")


def rows(connection: DuckDBPyConnection, version: int | None = None) -> list[tuple]:
    found = scan(open_table(TABLE, version), TABLE)
    return connection.execute(f"from ({found}) order by all").fetchall()


def publish_hour(connection: DuckDBPyConnection, number: int) -> None:
    """Publish three generations of the number-th hour; the watermark is the hour's number."""
    hour = HOUR + number * ONE_HOUR
    query = generations(3, hour, generation_id=f"'{number}-' || i")
    publish(connection, run_of(hour), TABLE, query, watermark=number)


def test_a_table_put_back_has_its_rows_and_marks_of_then(
    connection: DuckDBPyConnection, versions: Versions
) -> None:
    """The next run reads what came later again, and downstream tables are rebuilt whole."""
    versions.may_shrink.add(TABLE)
    for number in (1, 2, 3):
        publish_hour(connection, number)
    wanted = open_table(TABLE).version() - 2
    reader = create_table("gold.reader", GENERATIONS.schema, [])
    with pytest.raises(ControlRefusedError, match="stopped publishing"):
        restore(TABLE, wanted, "bad hours")
    stop_publishing("bad hours")
    made = restore(TABLE, wanted, "bad hours")
    table = open_table(TABLE)
    assert (table.version(), table.transaction_version(WATERMARK)) == (made, 1)
    assert rows(connection) == rows(connection, wanted)
    assert len(rows(connection)) == 3
    (commit,) = table.history(1)
    assert (commit["restored_reason"], commit["restored_to"]) == ("bad hours", str(wanted))
    assert commit["restored_by"]
    assert plan(reader, {TABLE: table}, run_of()).touched is None
    publish_hour(connection, 2)
    assert len(rows(connection)) == 6


def test_a_model_put_back_reads_its_parents_again(connection: DuckDBPyConnection) -> None:
    """Otherwise its hours since then would never be rebuilt."""
    publish_hour(connection, 1)
    create_table("gold.reader", GENERATIONS.schema, [])
    consumed = consumed_mark(identity_of(TABLE, open_table(TABLE)))
    for version in (0, 1):
        change = Change(marks={consumed: version})
        commit("gold.reader", lambda: open_table("gold.reader"), lambda _, c=change: c)
    stop_publishing("bad model")
    for version, mark in ((1, 0), (0, -1)):
        restore("gold.reader", version, "bad model")
        assert open_table("gold.reader").transaction_version(consumed) == mark


@pytest.mark.usefixtures("damaged")  # by the vacuum
def test_a_version_that_is_gone_is_refused_and_nothing_changes(
    connection: DuckDBPyConnection, lake: Path
) -> None:
    publish_hour(connection, 1)
    newest = open_table(TABLE).version()
    stop_publishing("why")
    for version in (newest, newest + 1):
        with pytest.raises(ControlRefusedError, match=f"0 to {newest - 1}"):
            restore(TABLE, version, "why")
    with pytest.raises(ControlRefusedError, match="table of versions"):
        restore("gold.nothing", 0, "why")
    publish(connection, run_of(HOUR + ONE_HOUR), TABLE, generations(2, HOUR + ONE_HOUR))
    before = open_table(TABLE).version()
    assert open_table(TABLE).optimize.compact()["numFilesRemoved"] == 2
    shutil.rmtree(lake / "bronze/generations" / f"_window_hour={hour_label(HOUR + ONE_HOUR)}")
    with pytest.raises(ControlRefusedError, match="log and files are kept"):
        restore(TABLE, before, "why")
    assert open_table(TABLE).version() == before + 1


def test_the_commands_say_what_they_did(connection: DuckDBPyConnection) -> None:
    publish_hour(connection, 1)
    publish_hour(connection, 2)

    def ask(*words: str) -> str:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        return done.output

    assert "publishing stopped by" in ask("stop-publishing", "--reason", "look at it")
    version = open_table(TABLE).version()
    text = ask("restore", TABLE, "--version", str(version - 1), "--reason", "look at it")
    assert f"{TABLE} is at version {version + 1}, with the rows of version {version - 1}" in text
    assert "publishing resumed by" in ask("resume-publishing", "--reason", "looked at")
