"""The rules of dbt-project-evaluator, each over a manifest and named as there.

dbt Labs' package comes from dbt's hub alone, which CI does not reach. What a rule means is its
documentation (https://dbt-labs.github.io/dbt-project-evaluator/latest/rules/), with the defaults of
its variables but for two: aggregates (`agg_`) are marts, and `unique_combination`, which refuses
nulls, tests a key as `dbt_utils.unique_combination_of_columns` does.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIXES = {
    "staging": ("stg_",),
    "intermediate": ("int_",),
    "marts": ("fct_", "dim_", "agg_"),
    "other": ("rpt_",),
}
FOLDERS = ("staging", "intermediate", "marts")
PRIMARY_KEY_TESTS = ({"unique", "not_null"}, {"unique_combination"})
MODELS_FANOUT = 3
TOO_MANY_JOINS = 7
CHAINED_VIEWS = 4
_NAME = r"[\"'`\[]?\w+[\"'`\]]?"
HARD_CODED = re.compile(
    rf"(?<!distinct\s)\b(?:from|join)\s+(?:\{{\{{\s*var\b|{_NAME}\.{_NAME}|[\"'`\[]\w)",
    re.IGNORECASE,
)

Node = dict[str, Any]
RULES: dict[str, Callable[[Project], list[str]]] = {}


class Project:
    """The nodes of a manifest, with the queries that the rules need."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self.nodes = nodes
        self.children: dict[str, list[Node]] = defaultdict(list)
        for node in [*self.of_type("model"), *self.of_type("exposure")]:
            for parent in node["depends_on"]["nodes"]:
                self.children[parent].append(node)
        self.tests: dict[str, list[Node]] = defaultdict(list)
        for node in self.of_type("test"):
            self.tests[node["attached_node"]].append(node)

    def of_type(self, kind: str) -> list[Node]:
        return [node for node in self.nodes.values() if node["resource_type"] == kind]

    def parents(self, node: Node, *kinds: str) -> list[Node]:
        """Return what a node reads: all of it, or sources, models, or those of some types."""
        found = [self.nodes[name] for name in dict.fromkeys(node["depends_on"]["nodes"])]
        return [
            each for each in found if not kinds or {each["resource_type"], type_of(each)} & {*kinds}
        ]

    def readers(self, node: Node) -> list[Node]:
        """Return the models that read a node."""
        return [each for each in self.children[node["unique_id"]] if type_of(each)]


def name_of(node: Node) -> str:
    """Return a node's name; a source table's with its source's name."""
    return f"{node['source_name']}.{node['name']}" if "source_name" in node else node["name"]


def folder_of(node: Node) -> PurePosixPath:
    return PurePosixPath(node["original_file_path"]).parent


def type_by_folder(node: Node) -> str | None:
    """Return the type given by the nearest folder that names one."""
    return next((part for part in reversed(folder_of(node).parts) if part in FOLDERS), None)


def type_of(node: Node) -> str | None:
    """Return a model's type: its prefix decides, without one its folder; None for other nodes."""
    if node["resource_type"] != "model":
        return None
    for kind, prefixes in PREFIXES.items():
        if node["name"].startswith(prefixes):
            return kind
    return type_by_folder(node) or "other"


def is_virtual(node: Node) -> bool:
    return bool(type_of(node)) and node["config"]["materialized"] in ("view", "ephemeral")


def rule_of(kind: str) -> Callable[[Callable[[Project, Node], bool]], None]:
    """Register a rule that each node of a type breaks or keeps."""

    def enter(is_broken: Callable[[Project, Node], bool]) -> None:
        RULES[is_broken.__name__] = lambda project: [
            name_of(node) for node in project.of_type(kind) if is_broken(project, node)
        ]

    return enter


def rule_of_edges(find: Callable[[Project, Node], list[Node]]) -> None:
    """Register a rule that finds a model's or an exposure's forbidden parents."""
    RULES[find.__name__] = lambda project: [
        f"{name_of(parent)} -> {name_of(node)}"
        for node in [*project.of_type("model"), *project.of_type("exposure")]
        for parent in find(project, node)
    ]


# Modeling


@rule_of("model")
def fct_direct_join_to_source(project: Project, node: Node) -> bool:
    return bool(project.parents(node, "model") and project.parents(node, "source"))


@rule_of("source")
def fct_duplicate_sources(project: Project, node: Node) -> bool:
    def place(source: Node) -> tuple[str, ...]:
        return source["database"], source["schema"], source["identifier"]

    return [place(each) for each in project.of_type("source")].count(place(node)) > 1


@rule_of("model")
def fct_hard_coded_references(_: Project, node: Node) -> bool:
    return bool(HARD_CODED.search(node["raw_code"]))


@rule_of_edges
def fct_marts_or_intermediate_dependent_on_source(project: Project, node: Node) -> list[Node]:
    return project.parents(node, "source") if type_of(node) in ("marts", "intermediate") else []


@rule_of("model")
def fct_model_fanout(project: Project, node: Node) -> bool:
    """Too many of a model's readers are leaves, which no model reads."""
    leaves = [each for each in project.readers(node) if not project.readers(each)]
    return len(leaves) >= MODELS_FANOUT


@rule_of("model")
def fct_multiple_sources_joined(project: Project, node: Node) -> bool:
    return len(project.parents(node, "source")) > 1


@rule_of("model")
def fct_rejoining_of_upstream_concepts(project: Project, node: Node) -> bool:
    """The model has a single reader, which also reads one of the model's parents."""
    parents, readers = {*node["depends_on"]["nodes"]}, project.readers(node)
    return len(readers) == 1 and not parents.isdisjoint(readers[0]["depends_on"]["nodes"])


@rule_of("model")
def fct_root_models(project: Project, node: Node) -> bool:
    return not project.parents(node)


@rule_of("source")
def fct_source_fanout(project: Project, node: Node) -> bool:
    return len(project.readers(node)) > 1


@rule_of_edges
def fct_staging_dependent_on_marts_or_intermediate(project: Project, node: Node) -> list[Node]:
    return project.parents(node, "marts", "intermediate") if type_of(node) == "staging" else []


@rule_of_edges
def fct_staging_dependent_on_staging(project: Project, node: Node) -> list[Node]:
    return project.parents(node, "staging") if type_of(node) == "staging" else []


@rule_of("model")
def fct_too_many_joins(project: Project, node: Node) -> bool:
    return len(project.parents(node)) >= TOO_MANY_JOINS


@rule_of("source")
def fct_unused_sources(project: Project, node: Node) -> bool:
    return not project.children[node["unique_id"]]


# Testing


@rule_of("model")
def fct_missing_primary_key_tests(project: Project, node: Node) -> bool:
    """A constraint of its contract counts as the test that a column is not null."""
    tested = defaultdict(set)
    for test in project.tests[node["unique_id"]]:
        tested[test["column_name"]].add(test["test_metadata"]["name"])
    for name, column in node["columns"].items():
        tested[name].update(constraint["type"] for constraint in column["constraints"])
    return not any(wanted <= found for wanted in PRIMARY_KEY_TESTS for found in tested.values())


@rule_of("source")
def fct_sources_without_freshness(_: Project, node: Node) -> bool:
    limits = (node["freshness"] or {}).values()
    return not any(limit and limit["count"] for limit in limits)


@rule_of("model")
def fct_test_coverage(project: Project, node: Node) -> bool:
    """A percentage in the package; at its target, 100, each model without a test breaks it."""
    return not project.tests[node["unique_id"]]


# Documentation


@rule_of("model")
def fct_documentation_coverage(_: Project, node: Node) -> bool:
    """Also a percentage; at 100, this rule and the next one are the same."""
    return not node["description"]


@rule_of("model")
def fct_undocumented_models(_: Project, node: Node) -> bool:
    return not node["description"]


@rule_of("source")
def fct_undocumented_source_tables(_: Project, node: Node) -> bool:
    return not node["description"]


@rule_of("source")
def fct_undocumented_sources(_: Project, node: Node) -> bool:
    return not node["source_description"]


# Structure


@rule_of("model")
def fct_model_directories(project: Project, node: Node) -> bool:
    """A staging model belongs in its source's folder, any other in that of its type."""
    if type_of(node) != "staging":
        return type_of(node) != type_by_folder(node)
    sources = project.parents(node, "source")
    return not all(each["source_name"] in str(folder_of(node)) for each in sources)


@rule_of("model")
def fct_model_naming_conventions(_: Project, node: Node) -> bool:
    return not node["name"].startswith(PREFIXES[str(type_of(node))])


@rule_of("source")
def fct_source_directories(_: Project, node: Node) -> bool:
    return node["source_name"] not in str(folder_of(node))


@rule_of("model")
def fct_test_directories(project: Project, node: Node) -> bool:
    return any(folder_of(test) != folder_of(node) for test in project.tests[node["unique_id"]])


# Performance


@rule_of("model")
def fct_chained_views_dependencies(project: Project, node: Node) -> bool:
    def chained(model: Node) -> int:
        """Count the views above a model, each reading the next."""
        views = filter(is_virtual, project.parents(model))
        return max((1 + chained(view) for view in views), default=0)

    return chained(node) > CHAINED_VIEWS


@rule_of_edges
def fct_exposure_parents_materializations(project: Project, node: Node) -> list[Node]:
    parents = project.parents(node) if node["resource_type"] == "exposure" else []
    return [each for each in parents if is_virtual(each) or not type_of(each)]


# Governance


@rule_of_edges
def fct_exposures_dependent_on_private_models(project: Project, node: Node) -> list[Node]:
    parents = project.parents(node) if node["resource_type"] == "exposure" else []
    return [each for each in parents if each.get("access") != "public"]


@rule_of("model")
def fct_public_models_without_contract(_: Project, node: Node) -> bool:
    return node["access"] == "public" and not node["config"]["contract"]["enforced"]


@rule_of("model")
def fct_undocumented_public_models(_: Project, node: Node) -> bool:
    columns = [column["description"] for column in node["columns"].values()]
    is_documented = bool(node["description"] and columns and all(columns))
    return node["access"] == "public" and not is_documented
