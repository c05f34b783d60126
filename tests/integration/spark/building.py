"""Build models on Spark as the DAG does, each in a process of its own, and put them through gates."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from include.chimera.flow.cosmos.graph import DBT_FLAGS
from include.chimera.operations.dbt_manifest import parse_command
from include.chimera.paths import DBT_PROJECT, PROJECT
from include.chimera.window import Run
from tests.integration.object_store import forget_settings
from tests.integration.quality.gating import gated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.chimera.lake.staged.publications import Publication

_START = multiprocessing.get_context("forkserver")
_START.set_forkserver_preload(
    ["dbt.cli.main", "dbt.adapters.spark.session", "include.chimera.lake.spark.builds"]
)
_MODEL = "model.chimera."


@dataclass(frozen=True)
class Parsed:
    """The dbt project as dbt parsed it for Spark.

    Args:
        folder: Where its manifest and partial parse are.
    """

    folder: Path

    @classmethod
    def into(cls, folder: Path) -> Parsed:
        """Parse the project."""
        environment = {"PATH": os.defpath, "HOME": str(folder), "CHIMERA_ENGINE": "spark",
                       "PYTHONPATH": str(PROJECT), "DO_NOT_TRACK": "1"}  # fmt: skip
        done = subprocess.run(  # noqa: S603 - our own command line
            [sys.executable, "-c", f"from {parse_command.__module__} import _parse; from pathlib "
             "import Path; import sys; _parse(Path(sys.argv[1]))", str(folder)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return cls(folder)

    def in_order(self) -> list[str]:
        """Return the models that are tables, each after what it reads."""
        manifest = json.loads((self.folder / "manifest.json").read_text())
        nodes = {name: node for name, node in manifest["nodes"].items() if name.startswith(_MODEL)}
        found: dict[str, None] = {}

        def visit(name: str) -> None:
            for parent in nodes[name]["depends_on"]["nodes"]:
                if parent in nodes:
                    visit(parent)
            if nodes[name]["config"]["materialized"] != "ephemeral":
                found[name.removeprefix(_MODEL)] = None

        for name in nodes:
            visit(name)
        return list(found)

    def table(self, model: str) -> str:
        """Return the table of a model."""
        manifest = json.loads((self.folder / "manifest.json").read_text())
        node = manifest["nodes"][_MODEL + model]
        return f"{node['schema']}.{node['alias']}"


def _build(parsed, model, run, environment, answer, full_refresh):
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 - not in the tests' own process

    from include.chimera.flow.cosmos import dbt_events, spark_builds  # noqa: PLC0415 - as above

    os.environ.clear()  # noqa: TID251 - a process of its own gets an environment of its own
    os.environ.update(environment)  # noqa: TID251 - as above
    forget_settings()
    target = Path(environment["HOME"]) / f"dbt-{model}-{os.getpid()}"
    target.mkdir()
    shutil.copy(parsed / "partial_parse.msgpack", target)
    spark_builds.DBT_MANIFEST = parsed / "manifest.json"
    operator = SimpleNamespace(
        env={"CHIMERA_RUN": run},
        extra_context={"dbt_node_config": {"unique_id": _MODEL + model}},
        full_refresh=full_refresh,
    )
    failure = None
    with (target / "out").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            spark_builds.begin_build({}, operator)
            os.environ["CHIMERA_RUN"] = run  # noqa: TID251 - as Cosmos sets it
            flags = ["--full-refresh"] if full_refresh else []
            done = dbtRunner(callbacks=[dbt_events.note_failure]).invoke([
                "build", "--select", model, *flags, "--no-static-parser", *DBT_FLAGS[:2],
                "--exclude", "resource_type:unit_test", "tag:relationships",
                "--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT),
                "--profile", "chimera", "--target", "spark", "--target-path", str(target),
                "--log-path", str(target),
            ])  # fmt: skip
            operator.callback(str(target))
            if not done.success:
                failure = (dbt_events._noted or [done.exception or RuntimeError("dbt failed")])[0]
        except Exception as error:  # noqa: BLE001 - the test's process raises it again
            failure = error
        sys.stdout.flush()
    try:
        answer.write_bytes(pickle.dumps(failure))
    except (pickle.PicklingError, TypeError):
        answer.write_bytes(pickle.dumps(RuntimeError(repr(failure))))


@dataclass
class Building:
    """A model's build that runs or has run in a process of its own."""

    process: multiprocessing.Process
    answer: Path
    home: Path

    def wait(self) -> None:
        """Wait for its end.

        Raises:
            BaseException: What the build failed with.
        """
        self.process.join(300)
        outputs = sorted(self.home.glob("dbt-*/out"), key=lambda path: path.stat().st_mtime)
        said = outputs[-1].read_text() if outputs else ""
        assert self.answer.exists(), said
        failure = pickle.loads(self.answer.read_bytes())  # noqa: S301 - our own process wrote it
        if failure is not None:
            failure.add_note(said)
            raise failure


@dataclass(frozen=True)
class Spark:
    """A server, and what its builds need.

    Args:
        remote: Its address.
        parsed: The project.
        home: Where the processes write.
        variables: Environment that leads to the lake.
    """

    remote: str
    parsed: Parsed
    home: Path
    variables: Mapping[str, str]

    def start(self, model: str, run: Run, *, full_refresh: bool = False) -> Building:
        """Start a build."""
        answer = self.home / f"{model}-{len(list(self.home.iterdir()))}.answer"
        environment = {"PATH": os.defpath, "HOME": str(self.home), "DBT_USE_COLORS": "0",
                       "CHIMERA_ENGINE": "spark", "CHIMERA_SPARK_REMOTE": self.remote,
                       "DO_NOT_TRACK": "1", **self.variables}  # fmt: skip
        text = TypeAdapter(Run).dump_json(run).decode()
        process = _START.Process(
            target=_build,
            args=(self.parsed.folder, model, text, environment, answer, full_refresh),
        )
        process.start()
        return Building(process, answer, self.home)

    def build(self, model: str, run: Run, *, full_refresh: bool = False) -> None:
        """Build a model, whose files then wait for their gate."""
        self.start(model, run, full_refresh=full_refresh).wait()

    def publish(self, model: str, run: Run, *, full_refresh: bool = False) -> Publication:
        """Build a model, and publish it through its gate."""
        self.build(model, run, full_refresh=full_refresh)
        return publish(self.parsed.table(model), run)

    def publish_all(self, run: Run, *, full_refresh: bool = False) -> None:
        """Build and publish each model after what it reads."""
        for model in self.parsed.in_order():
            self.publish(model, run, full_refresh=full_refresh)


def publish(table: str, run: Run) -> Publication:
    """Put what a run staged of a table through its gate."""
    with gated(run, table) as (gate, verdict):
        assert verdict.success, (table, verdict.failed_rules)
        return gate.publish()
