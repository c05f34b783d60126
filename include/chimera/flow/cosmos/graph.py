"""The dbt graph as Airflow tasks: one per model, each followed by its gate."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

from airflow.sdk import TaskGroup, get_parsing_context
from cosmos import ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import (
    DbtResourceType,
    ExecutionMode,
    InvocationMode,
    LoadMode,
    TestBehavior,
    TestIndirectSelection,
)
from cosmos.converter import DbtToAirflowConverter

from include.chimera.errors import ConfigurationError
from include.chimera.flow.cosmos.dbt_events import log_event, note_failure
from include.chimera.flow.cosmos.spark_builds import begin_build
from include.chimera.flow.doc_pages import task_pages
from include.chimera.flow.gate_operator import gate_task
from include.chimera.flow.retry_policy import DBT, GATE
from include.chimera.operations.dbt_manifest import ENGINES, build_manifest
from include.chimera.paths import AIRFLOW_DBT, DBT_MANIFEST, DBT_PROJECT
from include.chimera.relation import Relation, gate_id
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk.bases.operator import BaseOperator
    from cosmos.dbt.graph import DbtNode

_LAYERS = {
    "bronze": "Rows as the sources have them, checked",
    "silver": "One row per thing, typed and renamed",
    "gold": "What readers ask for",
}
# Unit tests check code, not an hour's data; exposures run nothing; each test with two parents
# would become a task of its own.
_UNIT_TESTS = "resource_type:unit_test"
_LEFT_OUT = [_UNIT_TESTS, "resource_type:exposure", "tag:relationships"]
# Nothing reads a task's manifest.json or run_results.json, a single model looks up only its own
# relations, and the task already logs each event: this saves half of a build's CPU
# (docs/performance.md).
DBT_FLAGS = (
    *("--no-write-json", "--no-populate-cache"),
    *("--log-level", "none", "--log-level-file", "none"),
)


# It tells, in each task's log, how it read the project.
logging.getLogger("cosmos").setLevel(logging.WARNING)


def layer_group(layer: str) -> TaskGroup:
    """Return a new group for a layer's tasks, whose ids it leaves as they are."""
    return TaskGroup(layer, prefix_group_id=False, tooltip=_LAYERS[layer])


def transform(
    bronze_gates: Mapping[str, BaseOperator], layers: Mapping[str, TaskGroup]
) -> dict[str, BaseOperator]:
    """Render the dbt models and their gates, wired by the dbt graph; return the gates by table.

    A model starts once the gates of everything it reads have committed: the bronze gates of its
    sources and the gates of its parent models.

    A task parses the DAG, too. A model's or its gate's gets only that model and what is downstream
    of it, which its messages name: so its start does not grow with the project.

    Args:
        bronze_gates: Gate task by bronze table; a table without one is filled by nothing, and read
            as empty.
        layers: The groups of the models by their schema; those of others stand in `gold`.

    Raises:
        ConfigurationError: There is no dbt manifest and none can be built, or a model's alias can't
            be part of a task id.
    """
    if not DBT_MANIFEST.is_file():  # a stale one stays until a component starts, see `warm_up`
        build_manifest()
    manifest = json.loads(DBT_MANIFEST.read_text())
    tables = _tables(manifest)
    parsing = get_parsing_context()  # it stays in a task's environment, also for other DAGs
    is_own = parsing.dag_id == layers["gold"].dag.dag_id
    selected = _selected(manifest, tables, parsing.task_id) if is_own else []
    rendered = _dbt_tasks(layers["gold"], selected)
    nodes: dict[str, DbtNode] = {
        unique_id: node
        for unique_id, node in rendered.dbt_graph.filtered_nodes.items()
        if node.resource_type == DbtResourceType.MODEL
    }
    gates: dict[str, BaseOperator] = {}
    for unique_id, node in nodes.items():
        model, table = rendered.tasks_map[unique_id], tables[unique_id]
        model.doc_md = task_pages.of_model(table, manifest["nodes"][unique_id])
        with _moved(model, layers.get(Relation.parse(table).schema, layers["gold"])):
            if not node.has_ephemeral_materialization:
                gates[table] = gate_task(table, **GATE)
                model >> gates[table]
    known = {**bronze_gates, **gates}
    for unique_id, node in nodes.items():
        model = rendered.tasks_map[unique_id]
        for parent in node.depends_on:
            if tables.get(parent) in known:
                _wait_for_gate(model, rendered.tasks_map.get(parent), known[tables[parent]])
    return gates


def _selected(
    manifest: Mapping[str, Any], tables: Mapping[str, str], task_id: str | None
) -> list[str]:
    """Return dbt's selector of what a model's task or gate needs; [], for another's: everything."""
    return [
        f"fqn:{'.'.join(node['fqn'])}+"
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] == "model"
        and task_id in (f"build_{unique_id.split('.', 2)[2]}", gate_id(tables[unique_id]))
    ]


def _moved(task: BaseOperator, group: TaskGroup) -> TaskGroup:
    """Move a task into a group; return the group."""
    if task.task_id not in group.children:
        with group:  # outside of it, `add` takes no task of another group
            group.add(task)
    return group


def _tables(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the table (`<schema>.<alias>`) of each model and source, by dbt's unique id.

    Cosmos's nodes lack schema and alias.

    Raises:
        ConfigurationError: A model's alias can't be part of its gate's task id.
    """
    nodes, sources = manifest["nodes"], manifest["sources"]
    models = {name: node for name, node in nodes.items() if node["resource_type"] == "model"}
    for name, node in models.items():
        if not re.fullmatch(r"\w+", node["alias"], re.ASCII):
            raise ConfigurationError(
                expected="tables of the pipeline named by ASCII letters, digits and _ alone",
                came=f"alias {node['alias']!r}",
                where=name,
                remedy="give the model another alias: its gate's task is named after its table",
            )
    return {
        **{name: f"{node['schema']}.{node['identifier']}" for name, node in sources.items()},
        **{name: f"{node['schema']}.{node['alias']}" for name, node in models.items()},
    }


def _wait_for_gate(model: BaseOperator, parent: BaseOperator | None, gate: BaseOperator) -> None:
    """Make a model wait for a parent's gate, not for the task that builds the parent."""
    if parent is not None:
        parent.downstream_task_ids.discard(model.task_id)
        model.upstream_task_ids.discard(parent.task_id)
    gate >> model


def _name(node: DbtNode) -> str:
    return f"build_{node.resource_name}"


def _dbt_tasks(group: TaskGroup, selected: list[str]) -> DbtToAirflowConverter:
    return DbtToAirflowConverter(
        task_group=group,
        project_config=ProjectConfig(
            dbt_project_path=AIRFLOW_DBT,  # beside a developer's own dbt
            manifest_path=DBT_MANIFEST,
            project_name="chimera",
            install_dbt_deps=False,
            # Pass the run through the environment: --vars would make dbt reparse the project.
            env_vars={"CHIMERA_RUN": "{{ run_json(dag_run, params, task.task_id) }}"},
        ),
        profile_config=ProfileConfig(
            profile_name="chimera",
            target_name=ENGINES[get_settings().engine],
            profiles_yml_filepath=DBT_PROJECT / "profiles.yml",
        ),
        execution_config=ExecutionConfig(
            execution_mode=ExecutionMode.LOCAL,
            invocation_mode=InvocationMode.DBT_RUNNER,
            test_indirect_selection=TestIndirectSelection.CAUTIOUS,
        ),
        render_config=RenderConfig(
            load_method=LoadMode.DBT_MANIFEST,
            test_behavior=TestBehavior.BUILD,
            emit_datasets=False,
            select=selected,  # [] is all
            exclude=_LEFT_OUT,
            normalize_task_id=_name,
            normalize_task_display_name=_name,  # else the UI shows Cosmos' own name
        ),
        operator_args={
            "append_env": True,
            "exclude": _UNIT_TESTS,
            "full_refresh": "{{ params.full_refresh }}",
            # A source left out by the params skips its gate; models that read it run as usual.
            "trigger_rule": "none_failed",
            "dbt_runner_callbacks": [log_event, note_failure],
            "dbt_cmd_flags": list(DBT_FLAGS),
            "interceptors": [begin_build] if get_settings().engine == "spark" else [],
            **DBT,
        },
    )
