"""The gate as an Airflow task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException
from great_expectations_provider.common.errors import GXValidationFailed
from great_expectations_provider.operators.validate_checkpoint import GXValidateCheckpointOperator

from include.chimera.errors import GateFailedError
from include.chimera.flow.runs import run_of

if TYPE_CHECKING:
    from airflow.sdk import Context
    from great_expectations.data_context import FileDataContext

    from include.chimera.quality.gate import GatedCheckpoint
    from include.chimera.quality.gates import Gate


class GateOperator(GXValidateCheckpointOperator):  # type: ignore[misc]  # the provider ships no types
    """Validates what the run staged for a table, and commits it on a pass.

    The provider's operator pushes counts to XCom and raises on a failure whatever its severity;
    here the checkpoint's result is a verdict that knows severity, and a verdict is never retried.

    Args:
        table: `<layer>.<table>`.
    """

    def __init__(self, *, table: str, **arguments: Any) -> None:  # noqa: ANN401 - operator arguments
        super().__init__(
            configure_checkpoint=self._configure_checkpoint,
            context_type="file",
            configure_file_data_context=self._configure_context,
            **arguments,
        )
        self.table = table
        self._gate: Gate  # set while the task runs

    def execute(self, context: Context) -> None:
        """Run the gate.

        Raises:
            AirflowFailException: The verdict is negative: the task fails without retry.
        """
        from include.chimera.quality.gates import open_gate  # noqa: PLC0415 - GX is heavy

        with open_gate(self.table, run_of(context)) as gate:
            self._gate = gate
            try:
                super().execute(context)
            except GXValidationFailed:
                self.log.info("the verdict on %s is negative", self.table)
            try:
                gate.publish()
            except GateFailedError as error:
                raise AirflowFailException(str(error)) from error

    def _configure_context(self) -> FileDataContext:
        return self._gate.context()

    def _configure_checkpoint(self, context: FileDataContext) -> GatedCheckpoint:
        return self._gate.checkpoint(context)


def gate_task(table: str, **arguments: Any) -> GateOperator:  # noqa: ANN401 - operator arguments
    """Return the gate task of a table, named `gate_<layer>_<table>`."""
    return GateOperator(task_id=f"gate_{table.replace('.', '_')}", table=table, **arguments)
