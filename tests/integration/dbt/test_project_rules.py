"""The dbt project passes dbt-project-evaluator's rules; each rule finds a planted violation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.chimera.paths import DBT_PROJECT
from tests.integration.dbt.project_rules import HARD_CODED, RULES, Node, Project, name_of

pytestmark = pytest.mark.integration

_EPHEMERAL = "no table: Airflow would build it for the test alone; its reader's key is tested"
# What breaks each rule, with the reason why it may.
EXCEPTIONS = {
    "fct_model_fanout": {
        "agg_technique_daily": "days are the smallest of what effectiveness and dimensions sum up"
    },
    "fct_missing_primary_key_tests": {
        "int_generations_aggregated_hourly": _EPHEMERAL,
        "int_provider_availability_hourly": _EPHEMERAL,
    },
    "fct_test_coverage": {
        "int_generations_aggregated_hourly": _EPHEMERAL,
        "int_provider_availability_hourly": _EPHEMERAL,
    },
    "fct_sources_without_freshness": {
        "app.evaluations": "they come in campaigns, with days between them",
        "app.models": "a reference table that may rest for months",
    },
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Return the dbt project's manifest as it is now; the one that Airflow reads may be older."""
    target = tmp_path_factory.mktemp("target")
    done = subprocess.run(  # noqa: S603 - our own command line
        [str(Path(sys.executable).with_name("dbt")), "parse", "--target", "prod",
         "--target-path", str(target), "--log-path", str(target)],
        cwd=DBT_PROJECT,
        env={"PATH": os.defpath, "HOME": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return json.loads((target / "manifest.json").read_text())


@pytest.fixture(scope="module")
def chimera(manifest: Node) -> Project:
    return Project({**manifest["nodes"], **manifest["sources"], **manifest["exposures"]})


@pytest.mark.parametrize("rule", RULES)
def test_the_project_keeps_the_rule(chimera: Project, rule: str) -> None:
    """With listed exceptions, each of which still breaks the rule."""
    assert set(RULES[rule](chimera)) == EXCEPTIONS.get(rule, {}).keys()


def macros_of(manifest: Node, *packages: str) -> dict[str, str]:
    """Return the macros of packages, each by its name with its text."""
    macros = [each for each in manifest["macros"].values() if each["package_name"] in packages]
    return {each["name"]: each["macro_sql"] for each in macros}


def test_each_macro_is_the_lakes_or_overrides_one_that_dbt_calls(manifest: Node) -> None:
    """Any other name is one that models, tests and macros call."""
    nodes = [*manifest["nodes"].values(), *manifest["macros"].values()]
    texts = "".join(each.get("raw_code") or each.get("macro_sql", "") for each in nodes)
    dbts = macros_of(manifest, "dbt", "dbt_duckdb")
    known = {re.sub("^(default|duckdb)__|_(default|duckdb)$", "", name) for name in dbts}
    ours = {re.sub("^(duckdb|spark)__|_(duckdb|spark)$", "", name)
            for name in macros_of(manifest, "chimera")}  # fmt: skip
    others = {name for name in ours - known if not name.startswith(("lake_", "test_"))}
    assert [name for name in others if len(re.findall(rf"\b{name}\(", texts)) < 2] == []


def test_each_macro_of_the_lake_is_called(manifest: Node) -> None:
    macros = macros_of(manifest, "chimera")
    texts = "".join(macros.values())
    names = {re.sub("^(duckdb|spark)__", "", name) for name in macros}
    lakes = [name for name in names if name.startswith("lake_")]
    call = r"""(?<!macro )\b{0}\(|dispatch\("{0}"\)"""
    assert [name for name in lakes if not re.search(call.format(name), texts)] == []


def model(name: str, folder: str, *parents: str, **more: Any) -> Node:
    column = {"name": "id", "description": "The key.", "constraints": []}
    return {
        "resource_type": "model",
        "name": name,
        "original_file_path": f"models/{folder}/{name}.sql",
        "raw_code": "select * from {{ ref('parent') }}",
        "config": {"materialized": "table", "contract": {"enforced": True}},
        "depends_on": {"nodes": parents},
        "columns": {"id": column},
        "description": "One row per event.",
        "access": "public",
        **more,
    }


def staging(name: str, *parents: str) -> Node:
    return model(f"stg_app__{name}", "staging/app", *parents)


def mart(name: str, *parents: str, **more: Any) -> Node:
    return model(f"fct_{name}", "marts", *(parents or ["stg_app__events"]), **more)


def source(name: str, **more: Any) -> Node:
    return {
        "resource_type": "source",
        "source_name": "app",
        "name": name,
        "original_file_path": "models/staging/app/_app__models.yml",
        "database": "memory",
        "schema": "bronze",
        "identifier": name,
        "freshness": {"warn_after": {"count": 2, "period": "hour"}, "filter": None},
        "description": "One row per event.",
        "source_description": "A system.",
        **more,
    }


def data_test(name: str, tested: str, folder: str) -> Node:
    return {
        "resource_type": "test",
        "name": f"{name}_{tested}",
        "original_file_path": f"models/{folder}/_models.yml",
        "attached_node": tested,
        "column_name": "id",
        "test_metadata": {"name": name},
    }


def project_of(*changes: Node) -> Project:
    """Return a small project without faults, but for the nodes that are added or replaced."""
    nodes = [
        source("events"),
        staging("events", "app.events"),
        mart("events"),
        *(data_test(name, "stg_app__events", "staging/app") for name in ("unique", "not_null")),
        data_test("unique_combination", "fct_events", "marts"),
        {"resource_type": "exposure", "name": "board", "depends_on": {"nodes": ["fct_events"]}},
        *changes,
    ]
    return Project({name_of(node): {**node, "unique_id": name_of(node)} for node in nodes})


VIEW = {"materialized": "view", "contract": {"enforced": True}}
# For each rule nodes that break it, and what the rule then finds.
PLANTED: dict[str, tuple[list[Node], list[str]]] = {
    "fct_direct_join_to_source": (
        [mart("events", "stg_app__events", "app.events")],
        ["fct_events"],
    ),
    "fct_duplicate_sources": (
        [source("again", identifier="events")],
        ["app.events", "app.again"],
    ),
    "fct_hard_coded_references": (
        [mart("events", raw_code="select * from silver.events")],
        ["fct_events"],
    ),
    "fct_marts_or_intermediate_dependent_on_source": (
        [mart("events", "app.events")],
        ["app.events -> fct_events"],
    ),
    "fct_model_fanout": ([mart("more"), mart("most")], ["stg_app__events"]),
    "fct_multiple_sources_joined": (
        [source("users"), staging("events", "app.events", "app.users")],
        ["stg_app__events"],
    ),
    "fct_rejoining_of_upstream_concepts": (
        [
            model("int_events", "intermediate", "stg_app__events"),
            mart("events", "stg_app__events", "int_events"),
        ],
        ["int_events"],
    ),
    "fct_root_models": ([model("fct_late", "marts")], ["fct_late"]),
    "fct_source_fanout": ([staging("again", "app.events")], ["app.events"]),
    "fct_staging_dependent_on_marts_or_intermediate": (
        [staging("late", "fct_events")],
        ["fct_events -> stg_app__late"],
    ),
    "fct_staging_dependent_on_staging": (
        [staging("late", "stg_app__events")],
        ["stg_app__events -> stg_app__late"],
    ),
    "fct_too_many_joins": (
        [
            *(staging(name, "app.events") for name in "abcdefg"),
            mart("all", *(f"stg_app__{name}" for name in "abcdefg")),
        ],
        ["fct_all"],
    ),
    "fct_unused_sources": ([source("users")], ["app.users"]),
    "fct_missing_primary_key_tests": (
        [mart("late"), data_test("unique", "fct_late", "marts")],
        ["fct_late"],
    ),
    "fct_sources_without_freshness": ([source("events", freshness=None)], ["app.events"]),
    "fct_test_coverage": ([mart("late")], ["fct_late"]),
    "fct_documentation_coverage": ([mart("events", description="")], ["fct_events"]),
    "fct_undocumented_models": ([mart("events", description="")], ["fct_events"]),
    "fct_undocumented_source_tables": ([source("events", description="")], ["app.events"]),
    "fct_undocumented_sources": ([source("events", source_description="")], ["app.events"]),
    "fct_model_directories": (
        [model("fct_events", "marts/intermediate", "stg_app__events"),
         model("stg_app__events", "staging/logs", "app.events")],
        ["stg_app__events", "fct_events"],
    ),
    "fct_model_naming_conventions": (
        [model("events", "marts", "stg_app__events")],
        ["events"],
    ),
    "fct_source_directories": (
        [source("events", original_file_path="models/staging/_sources.yml")],
        ["app.events"],
    ),
    "fct_test_directories": ([data_test("late", "fct_events", "staging")], ["fct_events"]),
    "fct_chained_views_dependencies": (
        [mart("0"), *(mart(f"{view + 1}", f"fct_{view}", config=VIEW) for view in range(5)),
         mart("late", "fct_5")],
        ["fct_late"],
    ),
    "fct_exposure_parents_materializations": (
        [mart("events", config=VIEW)],
        ["fct_events -> board"],
    ),
    "fct_exposures_dependent_on_private_models": (
        [mart("events", access="protected")],
        ["fct_events -> board"],
    ),
    "fct_public_models_without_contract": (
        [mart("events", config={"materialized": "table", "contract": {"enforced": False}})],
        ["fct_events"],
    ),
    "fct_undocumented_public_models": ([mart("events", columns={})], ["fct_events"]),
}  # fmt: skip


def test_each_rule_has_a_planted_fault_and_finds_none_where_none_is() -> None:
    assert PLANTED.keys() == RULES.keys()
    assert [rule for rule, find in RULES.items() if find(project_of())] == []


@pytest.mark.parametrize("rule", PLANTED)
def test_the_rule_finds_what_is_planted(rule: str) -> None:
    changes, found = PLANTED[rule]
    assert RULES[rule](project_of(*changes)) == found


@pytest.mark.parametrize(
    ("sql", "is_hard_coded"),
    [
        ("from silver.events", True),
        ("left join memory.silver.events", True),
        ('from "events"', True),
        ("from {{ var('table') }}", True),
        ("from {{ ref('events') }}", False),
        ("from events", False),
        ("where left_side is distinct from events.right_side", False),
    ],
)
def test_hard_coded_references_are_told_from_others(sql: str, is_hard_coded: bool) -> None:
    assert bool(HARD_CODED.search(sql)) == is_hard_coded
