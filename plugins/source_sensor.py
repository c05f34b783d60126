"""Waits for an hour's sources, in the triggerer and not in a worker (ADR 15)."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, BaseSensorOperator
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.chimera.errors import ChimeraError, SourceLateError, SourceUnavailableError
from include.chimera.flow.connections import APP_DB, PROMETHEUS, http_url, libpq_uri
from include.chimera.flow.foreign_errors import own_words
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from airflow.sdk import Context

logger = logging.getLogger(__name__)

API_LOGS = "api_logs"
_ADDRESS = {APP_DB: libpq_uri, PROMETHEUS: http_url}
_POKE_SECONDS = 5.0
# A look that never returns (a disk that hangs) must not hold the trigger for ever: its last one
# may take as long as a source's whole answer.
_LAST_LOOK = timedelta(seconds=120)


class SourceSensor(BaseSensorOperator):
    """Waits until a source has all that it will have of the run's window.

    It looks once in the worker: an hour that is complete costs no more than that. A source that is
    late is waited for in the triggerer. A server that does not answer is not late: its extract
    finds out, and has the retries for it. Logs that can't be seen fail here already.

    Args:
        source: A key of `contracts.SOURCES`.
        tables: What is read from it; a run that asks for none of these skips the sensor.
    """

    def __init__(self, *, source: str, tables: Collection[str], **arguments: Any) -> None:  # noqa: ANN401 - operator arguments
        timeout = get_settings().source_wait_seconds
        super().__init__(timeout=timeout, poke_interval=_POKE_SECONDS, **arguments)
        self.source, self.tables = source, list(tables)

    @own_words()
    def execute(self, context: Context) -> None:
        """Look once; defer if the source is late.

        Raises:
            AirflowSkipException: The run was asked for other sources.
            ChimeraError: The logs can't be listed or read.
        """
        from include.chimera.flow.run_context import begin_task  # noqa: PLC0415 - keeps other components light

        end, asked = begin_task(context).window.end, context["params"].get("sources")
        if asked and not set(asked) & set(self.tables):
            raise AirflowSkipException(f"asked for {', '.join(asked)} alone")  # noqa: EM102, TRY003 - no error
        place = get_settings().api_logs
        if address := _ADDRESS.get(self.source):
            place = address(BaseHook.get_connection(self.source))
        if missing := lacks(self.source, place, end):
            logger.info("waiting for %s: %s", self.source, missing)
            until = datetime.now(UTC) + timedelta(seconds=self.timeout)
            trigger = SourceTrigger(self.source, end, until, self.poke_interval)
            wait = timedelta(seconds=self.timeout) + _LAST_LOOK
            self.defer(trigger=trigger, method_name=self.arrive.__name__, timeout=wait)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> None:
        """Come back from the triggerer.

        Raises:
            SourceLateError: The trigger's look did not return.
        """
        try:
            super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout as error:
            raise SourceLateError(
                expected=f"an answer of {self.source} within {self.timeout:g} s",
                came="none: a look at it did not return",
                where=f"{self.source}, in the triggerer",
                remedy="see whether its server or disk hangs; then clear this task",
            ) from error

    def arrive(self, context: Context, event: str | list[str]) -> None:
        """Go on, or fail if the time was up or the trigger could not look.

        Raises:
            SourceLateError: The source is still not complete; `event` says what it lacks.
            SourceUnavailableError: `event` is its four parts.
        """
        from include.chimera.flow.run_context import begin_task  # noqa: PLC0415 - as above

        end = begin_task(context).window.end
        if isinstance(event, list):
            raise SourceUnavailableError(*event)
        if event:
            raise SourceLateError(
                expected=f"all of {self.source} until {end.isoformat()} within {self.timeout:g} s",
                came=event,
                where=self.source,
            )


class SourceTrigger(BaseTrigger):
    """Looks again and again; its event is what the source lacks when the time is up, "" before.

    Where it can't look, its event is the error's four parts.

    Args:
        source: A key of `contracts.SOURCES`.
        end: The window's end, exclusive, UTC.
        until: When to give up, UTC.
        interval: Seconds from one look to the next.
    """

    def __init__(self, source: str, end: datetime, until: datetime, interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no types
        self.source, self.end, self.until, self.interval = source, end, until, interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer makes the same trigger of: no address, no secret."""
        names = ("source", "end", "until", "interval")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, in a thread of its own, until the source is complete or the time is up."""
        place = get_settings().api_logs
        if address := _ADDRESS.get(self.source):
            place = address(await BaseHook.aget_connection(self.source))
        event: str | list[str]
        try:
            while event := await asyncio.to_thread(lacks, self.source, place, self.end):
                if datetime.now(UTC) >= self.until:
                    break
                await asyncio.sleep(self.interval)
        except ChimeraError as error:
            where = f"{error.where}, seen from the triggerer"
            event = [error.expected, error.came, where, error.remedy]
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]  # Airflow's has no types


@own_words()
def lacks(source: str, place: str, end: datetime) -> str:
    """Return what a source lacks of the hours before `end`; "": nothing, or it does not answer.

    Raises:
        ChimeraError: The logs can't be listed or read: that would be an empty hour.
    """
    from include.chimera.sources.completeness import LACKS  # noqa: PLC0415 - heavy

    try:
        return LACKS[source](place, end)
    except ChimeraError as error:
        if source == API_LOGS:
            raise
        logger.warning("%s does not answer: %s", source, error)
        return ""
