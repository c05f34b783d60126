"""Build models on Spark as a task of the DAG does, and put them through their gates."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from uuid import uuid4

from pydantic import TypeAdapter

from include.chimera.errors import ChimeraError
from include.chimera.paths import DBT_PROJECT
from include.chimera.window import Run
from tests.integration.object_store import forget_settings
from tests.integration.quality.gating import gated

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
        project: The project's own folder.
    """

    folder: Path
    project: Path = DBT_PROJECT

    @classmethod
    def into(cls, folder: Path, project: Path = DBT_PROJECT) -> Parsed:
        """Parse the project."""
        command = [str(Path(sys.executable).with_name("dbt")), "parse", "--no-static-parser"]
        done = subprocess.run(  # noqa: S603 - our own command line
            [
                *command,
                "--target",
                "spark",
                "--target-path",
                str(folder),
                "--log-path",
                str(folder),
            ],
            cwd=project,
            env={"PATH": os.defpath, "HOME": str(folder), "DO_NOT_TRACK": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return cls(folder, project)

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


_FLAGS = ("--no-static-parser", "--no-write-json", "--no-populate-cache", "--quiet")
_LEFT_OUT = ("--exclude", "resource_type:unit_test", "tag:relationships")


def _work(parsed, models, run, environment, answer, options):  # noqa: PLR0913, PLR0917 - of a process
    """Build models one after the other, each as a task does, and publish them if that is asked."""
    from include.chimera.flow.cosmos import spark_builds  # noqa: PLC0415 - not in the tests' process

    os.environ.clear()  # noqa: TID251 - a process of its own gets an environment of its own
    os.environ.update(environment, CHIMERA_RUN=run)  # noqa: TID251 - as above
    forget_settings()
    spark_builds.DBT_MANIFEST = parsed.folder / "manifest.json"
    target = answer.with_suffix(".dbt")
    target.mkdir()
    shutil.copy(parsed.folder / "partial_parse.msgpack", target)
    failures = {}
    with answer.with_suffix(".out").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        for model in models:
            try:
                _build(spark_builds.begin_build, parsed.project, model, run, target, options)
                if options["is_published"]:
                    publish(parsed.table(model), TypeAdapter(Run).validate_json(run))
            except BaseException as error:  # noqa: BLE001 - the test's process raises it again
                failures[model] = error if isinstance(error, ChimeraError) else _told(error)
                if options["is_published"]:
                    break
        sys.stdout.flush()
    answer.write_bytes(pickle.dumps(failures))


def _told(error):
    """Return a foreign error as one that every process can read."""
    return RuntimeError("".join(traceback.format_exception(error)))


def _build(begin_build, project, model, run, target, options):  # noqa: PLR0913, PLR0917 - of a task
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 - not in the tests' own process

    from include.chimera.flow.cosmos import dbt_events  # noqa: PLC0415 - as above

    unique_id = model if "." in model else _MODEL + model
    operator = SimpleNamespace(
        env={"CHIMERA_RUN": run},
        extra_context={"dbt_node_config": {"unique_id": unique_id}},
        full_refresh=options["full_refresh"],
    )
    begin_build({}, operator)
    command = ["build", "--select", unique_id.split(".")[2], *_FLAGS, *_LEFT_OUT]
    command += ["--full-refresh"] if options["full_refresh"] else []
    for option in ("--project-dir", "--profiles-dir"):
        command += [option, str(project)]
    for option in ("--target-path", "--log-path"):
        command += [option, str(target)]
    runner = dbtRunner(callbacks=[dbt_events.note_failure])
    done = runner.invoke([*command, "--target", "spark"])
    operator.callback(str(target))
    if not done.success:
        raise dbt_events._noted[0] if dbt_events._noted else RuntimeError(str(done.exception))


@dataclass
class Building:
    """Builds that run or have run in a process of their own."""

    process: multiprocessing.Process
    answer: Path

    def wait(self) -> None:
        """Wait for their end.

        Raises:
            BaseException: What the first that failed did so with.
        """
        for error in self.failures().values():
            error.add_note(self.said)
            raise error

    def failures(self) -> dict[str, BaseException]:
        """Wait for their end; return what those that failed did so with, by model."""
        self.process.join(1800)
        assert self.answer.exists(), self.said
        found: dict[str, BaseException] = pickle.loads(self.answer.read_bytes())  # noqa: S301 - ours
        return found

    @property
    def said(self) -> str:
        """What dbt wrote on its console."""
        return self.answer.with_suffix(".out").read_text()


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

    def start(
        self, models: Iterable[str], run: Run, *, full_refresh: bool = False, publish: bool = True
    ) -> Building:
        """Start to build models, each after the one before it."""
        answer = self.home / f"{uuid4().hex}.answer"
        environment = {"PATH": os.defpath, "HOME": str(self.home), "DBT_USE_COLORS": "0",
                       "CHIMERA_ENGINE": "spark", "CHIMERA_SPARK_REMOTE": self.remote,
                       "DO_NOT_TRACK": "1", **self.variables}  # fmt: skip
        text = TypeAdapter(Run).dump_json(run).decode()
        options = {"full_refresh": full_refresh, "is_published": publish}
        arguments = (self.parsed, list(models), text, environment, answer, options)
        process = _START.Process(target=_work, args=arguments)
        process.start()
        return Building(process, answer)

    def build(self, *models: str, run: Run, full_refresh: bool = False) -> None:
        """Build models, whose files then wait for their gates."""
        self.start(models, run, full_refresh=full_refresh, publish=False).wait()

    def publish(self, *models: str, run: Run, full_refresh: bool = False) -> None:
        """Build models, and publish each through its gate; none: all of them."""
        self.start(models or self.parsed.in_order(), run, full_refresh=full_refresh).wait()


def publish(table: str, run: Run) -> Publication:
    """Put what a run staged of a table through its gate."""
    with gated(run, table) as (gate, verdict):
        assert verdict.success, (table, verdict.failed_rules)
        return gate.publish()
