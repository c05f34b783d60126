"""Derive from the models' SQL which columns each column is made of.

Run from the project's root: `python -m scripts.column_lineage` writes
include/dbt/column_lineage.json, of which OpenLineage's events are made. It compiles the models on
an empty lake, so the SQL is that of a full build. A test compares the file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlglot import exp, parse_one
from sqlglot.lineage import lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope

from include.chimera.contracts import BRONZE
from include.chimera.paths import DBT_PROJECT
from scripts.described_tables import tables

if TYPE_CHECKING:
    from scripts.described_tables import Table

FILE = DBT_PROJECT / "column_lineage.json"
_DIALECT = "duckdb"


def main() -> int:
    """Write the file; return the exit code."""
    FILE.write_text(json.dumps(column_lineage(), indent=1) + "\n")
    return 0


def column_lineage() -> dict[str, dict[str, Any]]:
    """Return, by table and column, type, inputs (`<layer>.<table>.<column>`) and `is_by_key`.

    `is_by_key`: no column goes into it, as in a count of rows; the inputs are then those of the
    table's key, which decides the rows.
    """
    models = _compiled()
    known: dict[str, dict[str, dict[str, str]]] = {"bronze": {}}
    for contract in BRONZE:
        known["bronze"][contract.table] = dict.fromkeys(contract.schema.names, "varchar")
    for node in models:
        columns = {name: column["data_type"] or "" for name, column in node["columns"].items()}
        known.setdefault(node["schema"], {})[node["alias"]] = columns
    described = {table.name: table for layer in ("silver", "gold") for table in tables(layer)}
    return {
        name: _of_model(node, {"memory": known}, described[name])
        for node in models
        for name in [f"{node['schema']}.{node['alias']}"]
    }


def _of_model(node: dict[str, Any], known: dict[str, Any], table: Table) -> dict[str, Any]:
    parsed = parse_one(node["compiled_code"], dialect=_DIALECT)
    query = qualify(parsed, dialect=_DIALECT, schema=known)
    scope = build_scope(query)
    made = {
        name: sorted(
            {
                f"{leaf.expression.db}.{leaf.expression.name}.{exp.to_column(leaf.name).name}"
                for leaf in lineage(name, query, known, scope=scope, dialect=_DIALECT).walk()
                if isinstance(leaf.expression, exp.Table)
            }
        )
        for name in query.named_selects
    }
    by_key = sorted({path for name in table.key for path in made[name]})
    types = {column.name: column.kind for column in table.columns}
    return {
        name: {
            "type": types[name],
            "from": inputs or by_key,
            "is_by_key": not inputs,
        }
        for name, inputs in made.items()
    }


def _compiled() -> list[dict[str, Any]]:
    """Return the models that become tables, with their SQL, sorted by table."""
    with tempfile.TemporaryDirectory() as folder:
        place, made = str(DBT_PROJECT), f"{folder}/target"
        subprocess.run(  # noqa: S603 - our own
            [
                *(sys.executable, "-m", "dbt.cli.main", "compile", "--quiet", "--target", "prod"),
                *("--project-dir", place, "--profiles-dir", place),
                *("--target-path", made, "--log-path", folder),
            ],
            env={**os.environ, "CHIMERA_STATE_DIR": folder},  # noqa: TID251 - an empty lake
            check=True,
        )
        nodes = json.loads((Path(made) / "manifest.json").read_text())["nodes"].values()
    models = [node for node in nodes if node["resource_type"] == "model"]
    built = [node for node in models if node["config"]["materialized"] != "ephemeral"]
    return sorted(built, key=lambda node: (node["schema"], node["alias"]))


if __name__ == "__main__":
    sys.exit(main())
