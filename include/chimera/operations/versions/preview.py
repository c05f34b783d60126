"""A change of the dbt project, seen before it lands.

The models that changed and their children are built from what production has published, read in
place at its pinned versions, and staged in a lake of their own, where the same gates judge them.
What they would change is counted by key against the same hours as published.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from pydantic import TypeAdapter

from include.chimera.contracts import BRONZE, PUBLISHED_VERSIONS, QUALITY_RESULTS
from include.chimera.errors import ConfigurationError, GateFailedError
from include.chimera.lake.delta.lineage import consumed_mark, identity_of
from include.chimera.lake.delta.scans import ask
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.ops_tables.consistent_snapshots import published_snapshot
from include.chimera.lake.store.places import forget
from include.chimera.paths import DBT_PROJECT, PROJECT
from include.chimera.quality.batches import staged_difference
from include.chimera.quality.gate import open_gate
from include.chimera.settings import PinnedLake, get_settings
from include.chimera.window import HOUR, Run, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from include.chimera.quality.row_differences import RowDifference

_MANIFEST = "manifest.json"
_SELECTED = (
    *("--select", "state:modified+"),
    *("--exclude", "resource_type:unit_test", "resource_type:exposure", "tag:relationships"),
    *("--indirect-selection", "cautious"),
)
# One thread, so that the process's CPU is that of one model at a time.
_QUIET = ("--quiet", "--log-level", "none", "--threads", "1")


@dataclass(frozen=True)
class PreviewedTable:
    """One table of a preview.

    Args:
        table: `<layer>.<table>`.
        outcome: Its gate's verdict in one word; or what kept it from one: dbt's `error` or
            `skipped`, or `not judged`.
        failed_rules: Critical rules and dbt's tests that failed.
        message: Why it has no verdict; "": it has one.
        seconds: How long dbt built it; its gate is not part of it.
        cpu_seconds: Of this process meanwhile.
        difference: What it would change in the same hours as published; None: it was not built.
    """

    table: str
    outcome: str
    failed_rules: tuple[str, ...]
    message: str
    seconds: float
    cpu_seconds: float
    difference: RowDifference | None

    @property
    def is_good(self) -> bool:
        """Whether a gate let it through, and no test failed."""
        return self.outcome in ("passed", "warned") and not self.failed_rules


@dataclass(frozen=True)
class Preview:
    """What a change would do.

    Args:
        run_id: The run whose published tables were read.
        window: The hours that were built anew, of these tables.
        tables: Each table that is built otherwise, parents first.
        removed: Tables whose models are gone; they stay in the lake as they are.
        seconds: Of everything.
        cpu_seconds: Of everything.
    """

    run_id: str
    window: Window
    tables: tuple[PreviewedTable, ...]
    removed: tuple[str, ...]
    seconds: float
    cpu_seconds: float

    @property
    def is_good(self) -> bool:
        """Whether every table was built, and passed its gate."""
        return all(table.is_good for table in self.tables)


def preview(base: str, hours: int) -> Preview:
    """Build what changed in the dbt project since a base, in a lake of its own, and compare it.

    Nothing is written but in `<state_dir>/preview`, which it makes anew.

    Args:
        base: What production runs: a folder with dbt's manifest of it, or a git reference.
        hours: How many of the last published hours incremental models compute; those of days
            compute the days that hold them. Tables are computed whole, from parents whose older
            hours are as published.

    Raises:
        SnapshotMissingError: The lake has nothing published.
        ConfigurationError: There is no such base, or dbt can't parse a project.
        LakeError: The lake can't be read.
    """
    started, cpu = time.monotonic(), time.process_time()
    snapshot = published_snapshot()
    ((end,),) = ask(PUBLISHED_VERSIONS.name, "select max(window_end) from ({})")
    window = Window(end - hours * HOUR, end)
    settings = get_settings()
    folder = settings.state_dir / "preview"
    shutil.rmtree(folder, ignore_errors=True)
    state = _state(base, folder / "base")
    published = PinnedLake(settings.lake, {**snapshot.versions, **_sources(snapshot.versions)})
    run = Run(f"preview__{snapshot.run_id}", window, moves_watermark=False)
    with _beside(published, run, folder):
        built, manifest = _build(state, folder)
        tables = tuple(_judge(each, run) for each in built)
    return Preview(
        snapshot.run_id,
        window,
        tables,
        tuple(sorted({*_tables(_read(state / _MANIFEST))} - {*_tables(manifest)})),
        round(time.monotonic() - started, 1),
        round(time.process_time() - cpu, 1),
    )


def _sources(versions: Mapping[str, int]) -> dict[str, int]:
    """Return the versions of bronze that pinned tables were made of, and of what gates look up."""
    found: dict[str, int] = {}
    for contract in (*BRONZE, QUALITY_RESULTS):
        source = open_table(contract.name, has_files=False)
        if source is None:
            continue
        mark = consumed_mark(identity_of(contract.name, source))
        children = (open_table(*pinned, has_files=False) for pinned in versions.items())
        read = (child.transaction_version(mark) for child in children if child is not None)
        found[contract.name] = min(
            (version for version in read if version is not None), default=source.version()
        )
    return found


def _state(base: str, folder: Path) -> Path:
    """Return the folder with the manifest of what production runs; make it of a git reference.

    Raises:
        ConfigurationError: There is neither, or dbt can't parse it.
    """
    if (Path(base) / _MANIFEST).is_file():
        return Path(base)
    place = DBT_PROJECT.relative_to(PROJECT)
    done = subprocess.run(  # noqa: S603 - our own command; git takes no option after --
        ["git", "-C", str(PROJECT), "archive", "--format=zip", f"{base}:{place}"],  # noqa: S607 - as PATH has it
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise ConfigurationError(
            expected=f"a folder with dbt's {_MANIFEST}, or a git reference",
            came=f"{base}; git: {done.stderr.decode(errors='replace').strip()}",
            where="--base",
            remedy="name a folder, or fetch the branch that production runs: git fetch origin main",
        )
    with ZipFile(BytesIO(done.stdout)) as archive:
        archive.extractall(folder)
    _run_dbt("parse", folder, folder / "target")
    return folder / "target"


@contextmanager
def _beside(published: PinnedLake, run: Run, folder: Path) -> Iterator[None]:
    """Let this process work on a lake of its own, and read the published one."""
    variables = {
        "CHIMERA_STATE_DIR": str(folder),
        "CHIMERA_LAKE_ROOT": "",
        "CHIMERA_RUN": _json(run),
        "CHIMERA_PUBLISHED": _json(published),
    }
    before = {name: os.environ.get(name) for name in variables}  # noqa: TID251 - put back below
    os.environ |= variables  # noqa: TID251 - dbt's plugin reads the settings anew
    _forget()
    try:
        yield
    finally:
        for name, text in before.items():
            os.environ.pop(name)  # noqa: TID251 - as above
            if text is not None:
                os.environ[name] = text  # noqa: TID251 - as above
        _forget()


def _forget() -> None:
    get_settings.cache_clear()
    forget()


def _json(value: Run | PinnedLake) -> str:
    return TypeAdapter(type(value)).dump_json(value).decode()


@dataclass
class _Costs:
    """Collects the CPU seconds of each model while dbt builds it (a dbtRunner callback)."""

    begun: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)

    def __call__(self, event: Any) -> None:  # noqa: ANN401 - dbt's EventMsg, a protobuf message
        now = time.process_time()
        if event.info.name == "NodeStart":
            self.begun = now
        elif event.info.name == "NodeFinished":
            self.spent[event.data.node_info.unique_id] = now - self.begun


def _run_dbt(
    command: str, project: Path, target: Path, *more: str, costs: _Costs | None = None
) -> Any:  # noqa: ANN401 - dbt's results
    """Run dbt in this process; return its results.

    Raises:
        ConfigurationError: It could not begin, because a project is wrong.
    """
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 - heavy

    places = (*("--project-dir", str(project)), *("--profiles-dir", str(project)))
    kept = (*("--target-path", str(target)), *("--log-path", str(target)))
    done = dbtRunner(callbacks=[costs] if costs else []).invoke(
        [command, *places, *kept, "--target", "prod", *_QUIET, *more]
    )
    if done.exception is not None:
        raise ConfigurationError(
            expected="a dbt project that can be parsed",
            came=str(done.exception),
            where=str(project),
            remedy="correct it; for a base, take the one that production runs",
        )
    return done.result


def _build(state: Path, folder: Path) -> tuple[list[tuple[Any, PreviewedTable]], Mapping[str, Any]]:
    """Build what changed; return each table with dbt's node, and the manifest."""
    costs = _Costs()
    defer = ("--state", str(state), "--defer")
    results = _run_dbt("build", DBT_PROJECT, folder / "target", *_SELECTED, *defer, costs=costs)
    built: list[tuple[Any, Any]] = []
    failed: dict[str, list[str]] = {}
    for result in results:
        node = result.node
        if node.resource_type == "test" and result.status in ("fail", "error"):
            failed.setdefault(node.attached_node, []).append(node.name)
        elif node.resource_type == "model" and node.config.materialized != "ephemeral":
            built.append((node, result))
    return [
        (
            node,
            PreviewedTable(
                f"{node.schema}.{node.alias}",
                str(result.status),
                tuple(failed.get(node.unique_id, ())),
                "" if result.status == "success" else str(result.message or ""),
                round(result.execution_time, 2),
                round(costs.spent.get(node.unique_id, 0.0), 2),
                None,
            ),
        )
        for node, result in built
    ], _read(folder / "target" / _MANIFEST)


def _judge(built: tuple[Any, PreviewedTable], run: Run) -> PreviewedTable:
    """Compare what was built with what is published, and let its gate judge and publish it."""
    node, found = built
    if found.outcome != "success":
        return found
    public = {name for name, column in node.columns.items() if column.config.meta.get("public")}
    found = replace(found, difference=staged_difference(found.table, run, public))
    try:
        with open_gate(found.table, run) as gate:
            verdict = gate.checkpoint(gate.context()).run()
            failed = (*verdict.failed_rules, *found.failed_rules)
            found = replace(found, outcome=verdict.outcome, failed_rules=failed)
            gate.publish()
    except GateFailedError:
        pass  # the verdict says so
    except ConfigurationError as error:  # of a new table without rules
        return replace(found, outcome="not judged", message=str(error))
    return found


def _read(manifest: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(manifest.read_text())
    return found


def _tables(manifest: Mapping[str, Any]) -> Iterator[str]:
    for node in manifest["nodes"].values():
        if node["resource_type"] == "model" and node["config"]["materialized"] != "ephemeral":
            yield f"{node['schema']}.{node['alias']}"
