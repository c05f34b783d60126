"""Put a Spark build around dbt in a Cosmos task: the session before it, the staged files after.

Cosmos runs dbt in the task's own process, where dbt-spark finds the session that was made here.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from include.chimera.flow.connections import spark_remote
from include.chimera.paths import DBT_MANIFEST
from include.chimera.relation import Relation
from include.chimera.window import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow.sdk import Context

    from include.chimera.lake.spark.builds import Model


def begin_build(context: Context, operator: Any) -> None:  # noqa: ANN401 - Cosmos' operator
    """Prepare the session of a model's build (an interceptor of Cosmos, called before dbt).

    Raises:
        ChimeraError: The lake or the server can't be reached.
    """
    from include.chimera.lake.spark.builds import SparkBuild  # noqa: PLC0415 - heavy

    del context
    remote = spark_remote()
    # dbt-spark asks for it even where there is a session; it may hold a token.
    os.environ["SPARK_REMOTE"] = remote  # noqa: TID251 - handed down
    run = TypeAdapter(Run).validate_json(operator.env["CHIMERA_RUN"])
    unique_id = operator.extra_context["dbt_node_config"]["unique_id"]
    manifest = json.loads(DBT_MANIFEST.read_text())
    is_full_refresh = str(operator.full_refresh).lower() == "true"
    build = SparkBuild(model_of(manifest, unique_id, is_full_refresh), run, remote)
    operator.callback = lambda _folder, **_: build.stage()


def model_of(manifest: Mapping[str, Any], unique_id: str, is_full_refresh: bool) -> Model:
    """Return what a build needs to know of a model."""
    from include.chimera.lake.spark.builds import Model  # noqa: PLC0415 - heavy

    node = manifest["nodes"][unique_id]
    config = node["config"]
    is_window = config["materialized"] == "incremental"
    return Model(
        table=Relation(node["schema"], node["alias"]),
        parents=tuple(dict.fromkeys(_parents(manifest, unique_id))),
        window=config["partition_by"] if is_window else "",
        is_full_refresh=is_full_refresh or bool(config.get("full_refresh")),
    )


def _parents(manifest: Mapping[str, Any], unique_id: str) -> Iterator[Relation]:
    """Yield the tables that a model reads, directly or through ephemeral models."""
    for name in manifest["nodes"][unique_id]["depends_on"].get("nodes", ()):
        parent = manifest["nodes"].get(name) or manifest["sources"][name]
        if parent["config"].get("materialized") == "ephemeral":
            yield from _parents(manifest, name)
        else:
            yield Relation(parent["schema"], parent.get("identifier") or parent["alias"])
