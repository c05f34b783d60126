"""The Airflow operator that runs a gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException
from great_expectations_provider.common.errors import GXValidationFailed
from great_expectations_provider.operators.validate_checkpoint import GXValidateCheckpointOperator

from include.chimera.errors import GateFailedError, TerminalError
from include.chimera.flow.doc_pages import task_pages
from include.chimera.flow.foreign_errors import own_words
from include.chimera.flow.run_context import begin_task
from include.chimera.relation import gate_id

if TYPE_CHECKING:
    from airflow.sdk import Context
    from pydantic import JsonValue

    from include.chimera.lake.staged.publications import Publication
    from include.chimera.lake.staged.verdicts import Verdict
    from include.chimera.window import Run

    Judged = tuple[Verdict | None, Publication | None]


class GateOperator(GXValidateCheckpointOperator):  # type: ignore[misc]  # the provider ships no types
    """Validates what the run staged for a table and commits it on a pass.

    The provider's operator pushes counts to XCom and raises on any failure, whatever its severity.
    Here the verdict depends on severity, and a negative verdict is never retried.

    The table's asset is its outlet: Airflow adds an event once the task has succeeded, so never
    before the commit was read back, and never for a batch that was refused.

    Args:
        table: `<layer>.<table>`.
    """

    def __init__(self, *, table: str, **arguments: Any) -> None:  # noqa: ANN401 - operator arguments
        super().__init__(
            configure_checkpoint=_closed,
            context_type="file",
            configure_file_data_context=_closed,
            outlets=[asset_of(table)],
            **arguments,
        )
        self.table = table
        self.judged: Judged = None, None  # OpenLineage's provider may ask for it afterwards

    @own_words()
    def execute(self, context: Context) -> None:
        """Run the gate.

        Raises:
            AirflowFailException: The verdict is negative; the task fails without a retry.
        """
        from include.chimera.lake.staged.manifests import forget  # noqa: PLC0415 - heavy
        from include.chimera.quality.gate import open_gate  # noqa: PLC0415 - GX is heavy

        run = begin_task(context)
        forget(run, self.table)
        with open_gate(self.table, run) as gate:
            # Not set at construction: Airflow copies the operator before running it.
            self.configure_file_data_context = gate.context
            self.configure_checkpoint = gate.checkpoint
            try:
                super().execute(context)
            except GXValidationFailed:
                self.log.info("the verdict on %s is negative", self.table)
            verdict = gate.checked.verdict if gate.checked else None
            self.judged = verdict, None
            try:
                publication = gate.publish()
            except GateFailedError as error:
                raise AirflowFailException(str(error)) from error
        self.judged = verdict, publication
        context["outlet_events"][asset_of(self.table)].extra = _told(publication, run)

    def get_openlineage_facets_on_complete(self, _: object) -> object:
        """Return what OpenLineage is told of a commit; its provider asks, where there is one."""
        from airflow.providers.openlineage.extractors import OperatorLineage  # noqa: PLC0415 - its own

        from include.chimera.flow.lineage.openlineage_facets import datasets_of  # noqa: PLC0415

        inputs, outputs = datasets_of(self.table, *self.judged)
        return OperatorLineage(inputs=inputs, outputs=outputs)

    def get_openlineage_facets_on_failure(self, task_instance: object) -> object:
        """Return what OpenLineage is told of a gate that refused, or could not judge."""
        return self.get_openlineage_facets_on_complete(task_instance)


def asset_of(table: str) -> Asset:
    """Return the asset of a table: `name` is the table, and its URI is the same in every lake."""
    return Asset(name=table, uri=f"chimera://lake/{table.replace('.', '/')}", group="chimera")


def _told(publication: Publication, run: Run) -> dict[str, JsonValue]:
    """Return what an event says of its commit; rows are those that are new or changed."""
    return {
        "version": publication.version,
        "rows": publication.rows_published,
        "window_start": run.window.start.isoformat(),
        "window_end": run.window.end.isoformat(),
        "run_id": run.run_id,
        "correlation_id": run.correlation_id,
    }


def _closed(*_: object) -> NoReturn:
    """Stand in for the configuration that an open gate provides."""
    raise TerminalError(
        expected="an open gate",
        came="a checkpoint asked for before the task runs",
        where="GateOperator",
        remedy="run the gate through its task",
    )


def gate_task(table: str, **arguments: Any) -> GateOperator:  # noqa: ANN401 - operator arguments
    """Return the gate task of a table."""
    doc = task_pages.of_gate(table)
    return GateOperator(task_id=gate_id(table), table=table, doc_md=doc, **arguments)
