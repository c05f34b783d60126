"""What OpenLineage is told of a gate: datasets, columns and rules, as counts and never as values.

Only Airflow's OpenLineage provider asks for it, where it is installed and configured. Datasets are
named as OpenLineage's naming page has it, by where they lie. Source:
https://openlineage.io/docs/spec/naming
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    data_quality_assertions_dataset,
    dataset_version_dataset,
    output_statistics_output_dataset,
    schema_dataset,
    symlinks_dataset,
)

from include.chimera.contracts import CONTRACTS
from include.chimera.lake.store.places import folder_of
from include.chimera.paths import DBT_PROJECT
from include.chimera.profiles.chosen import intake_of
from include.chimera.quality.rules.book import rule_book

if TYPE_CHECKING:
    from include.chimera.lake.staged.publications import Publication
    from include.chimera.lake.staged.verdicts import RuleResult, Verdict
    from include.chimera.quality.rules.book import Rule

COLUMN_LINEAGE = DBT_PROJECT / "column_lineage.json"
"""Of each model's columns, type and inputs: `python -m scripts.column_lineage` derives it."""

_Named = tuple[str, str]


def datasets_of(
    table: str, verdict: Verdict | None, publication: Publication | None
) -> tuple[list[InputDataset], list[OutputDataset]]:
    """Return what a gate's rows were made of and the rows that it judged; what it committed.

    Args:
        table: `<layer>.<table>`.
        verdict: What its rules said; None: they were not asked.
        publication: What it committed; None: nothing.
    """
    columns = _columns(table)
    read = sorted({source[:2] for made in columns.values() for source in made["from"]})
    inputs = [InputDataset(*name) for name in read]
    if verdict is not None:
        rules = {rule.rule_id: rule for rule in rule_book(table).rules}
        facet = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            [_assertion(told, rules.get(told.rule_id)) for told in verdict.results]
        )
        judged = InputDataset(*_dataset(table), inputFacets={"dataQualityAssertions": facet})
        inputs.append(judged)
    outputs = [] if publication is None else [_output(table, columns, publication)]
    return inputs, outputs


def _output(table: str, columns: dict[str, Any], publication: Publication) -> OutputDataset:
    fields = [
        schema_dataset.SchemaDatasetFacetFields(n, made["type"]) for n, made in columns.items()
    ]
    facets = {
        "schema": schema_dataset.SchemaDatasetFacet(fields),
        "columnLineage": _column_lineage(columns),
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(str(publication.version)),
        "symlinks": symlinks_dataset.SymlinksDatasetFacet(
            [symlinks_dataset.Identifier("chimera", table, "TABLE")]
        ),
    }
    rows = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=publication.rows_published
    )
    return OutputDataset(*_dataset(table), facets=facets, outputFacets={"outputStatistics": rows})


def _column_lineage(columns: dict[str, Any]) -> Any:  # noqa: ANN401 - the facet ships no types
    of = column_lineage_dataset
    fields = {}
    for name, made in columns.items():
        kind = ("INDIRECT", "GROUP_BY") if made["is_by_key"] else ("DIRECT", None)
        how = [of.Transformation(*kind)]
        sources = [
            of.InputField(namespace, dataset, column, how)
            for namespace, dataset, column in made["from"]
        ]
        if sources:
            fields[name] = of.Fields(inputFields=sources)
    return of.ColumnLineageDatasetFacet(fields=fields)


def _columns(table: str) -> dict[str, Any]:
    """Return each column's type, and its inputs as namespace, dataset and column."""
    contract = CONTRACTS.get(table)
    if contract is None:
        found: dict[str, Any] = _models().get(table, {})
        return {
            name: {**made, "from": [_column(path) for path in made["from"]]}
            for name, made in found.items()
        }
    intake, given = intake_of(table), set(contract.source_columns)
    source = f"chimera:{intake.source}", intake.reader.shown.replace("`", "")
    return {
        field.name: {
            "type": str(field.type),
            # Of our own columns, as the hash of a row, all of the row decides.
            "from": [(*source, name) for name in sorted({field.name} & given or given)],
            "is_by_key": field.name not in given,
        }
        for field in contract.schema
    }


@cache
def _models() -> dict[str, Any]:
    models: dict[str, Any] = json.loads(COLUMN_LINEAGE.read_text())
    return models


def _column(path: str) -> tuple[str, str, str]:
    table, _, column = path.rpartition(".")
    return (*_dataset(table), column)


def _dataset(table: str) -> _Named:
    """Return a table's namespace and name: by bucket or file system, and path."""
    place = urlsplit(folder_of(table))
    if place.scheme:
        return f"{place.scheme}://{place.netloc}", place.path.strip("/")
    return "file", place.path


def _assertion(told: RuleResult, rule: Rule | None) -> Any:  # noqa: ANN401 - the facet ships no types
    """Return what came of a rule; the book has none for the share of good rows."""
    broken, checked = told.unexpected_count, told.checked_count
    counted = "" if broken is None or checked is None else f"{broken} of {checked} rows break it"
    return data_quality_assertions_dataset.Assertion(
        assertion=rule.check if rule else told.rule_id,
        name=told.rule_id,
        column=rule.columns[0] if rule and len(rule.columns) == 1 else None,
        description=rule.note or None if rule else None,
        success=told.is_passed,
        severity="error" if told.severity == "critical" else "warn",
        actual=told.error or counted or None,
    )
