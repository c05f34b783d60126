"""Wait for an hour's sources in the triggerer, without holding a worker (ADR 15)."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, BaseSensorOperator
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.chimera.errors import ChimeraError, SourceLateError, SourceUnavailableError
from include.chimera.flow.connections import (
    API_LOGS,
    APP_DB,
    FILES,
    JSON,
    OTEL,
    PROMETHEUS,
    REPORTS,
    api_logs_root,
    connection_of,
    libpq_uri,
    own_connection,
    prometheus_server,
    records_root,
    reports_root,
    spans_root,
)
from include.chimera.flow.doc_pages.task_pages import page
from include.chimera.flow.foreign_errors import own_words
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping

    from airflow.sdk import Context

logger = logging.getLogger(__name__)

_ADDRESS: Mapping[str, Callable[[Any], Any]] = {
    APP_DB: libpq_uri,
    API_LOGS: api_logs_root,
    PROMETHEUS: prometheus_server,
    REPORTS: reports_root,
    OTEL: spans_root,
    JSON: records_root,
}
_POKE_SECONDS = 5.0
# A check that never returns (a hung disk) must not hold the trigger for ever. The last check may
# take as long as a source's whole answer.
_LAST_LOOK = timedelta(seconds=120)


class SourceSensor(BaseSensorOperator):
    """Waits until a source is complete for the run's window.

    It checks once in the worker, which is all that a complete hour costs, and waits for a late
    source in the triggerer. A server that does not answer is not late: its extract will fail, and
    has retries for that. Logs that can't be listed or read already fail here.

    Args:
        source: A key of `profiles.chosen.sources`.
        tables: The tables read from it; a run that asks for none of these skips the sensor.
    """

    def __init__(self, *, source: str, tables: Collection[str], **arguments: Any) -> None:  # noqa: ANN401 - operator arguments
        timeout = get_settings().source_wait_seconds
        told = page(
            f"Waits until `{source}` has all of the run's hours, for at most {timeout / 60:g} "
            "minutes; no worker waits. An hour that is complete is seen at once.",
            "**If it fails**, what reads this source waits for the next try, and everything else "
            "of the hour goes on. The log names what is missing.",
            runbook="A source is late",
        )
        super().__init__(timeout=timeout, poke_interval=_POKE_SECONDS, doc_md=told, **arguments)
        self.source, self.tables = source, list(tables)

    @own_words()
    def execute(self, context: Context) -> None:
        """Check once; defer if the source is late.

        Raises:
            AirflowSkipException: The run's params ask for other sources.
            ChimeraError: The logs can't be listed or read.
        """
        from include.chimera.flow.run_context import begin_task  # noqa: PLC0415 - keeps other components light

        end, asked = begin_task(context).window.end, context["params"].get("sources")
        if asked and not set(asked) & set(self.tables):
            raise AirflowSkipException(f"asked for {', '.join(asked)} alone")  # noqa: EM102, TRY003 - no error
        place = _ADDRESS[self.source](own_connection(self.source))
        if missing := lacks(self.source, place, end):
            logger.info("waiting for %s: %s", self.source, missing)
            until = datetime.now(UTC) + timedelta(seconds=self.timeout)
            trigger = SourceTrigger(self.source, end, until, self.poke_interval)
            wait = timedelta(seconds=self.timeout) + _LAST_LOOK
            self.defer(trigger=trigger, method_name=self.arrive.__name__, timeout=wait)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> None:
        """Resume after the triggerer.

        Raises:
            SourceLateError: The trigger's last check did not return.
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
        """Succeed, or fail if the time is up or the trigger could not check.

        Raises:
            SourceLateError: The source is still incomplete; `event` says what it lacks.
            SourceUnavailableError: The trigger could not check; `event` is the error's four parts.
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
    """Checks a source repeatedly until it is complete or the time is up.

    Its event is "" if the source is complete, what it lacks if the time is up, or the four parts of
    an error if it can't be checked.

    Args:
        source: A key of `profiles.chosen.sources`.
        end: The window's end, exclusive, UTC.
        until: When to give up, UTC.
        interval: Seconds between checks.
    """

    def __init__(self, source: str, end: datetime, until: datetime, interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no types
        self.source, self.end, self.until, self.interval = source, end, until, interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what a triggerer needs to recreate the trigger: no address, no secret."""
        names = ("source", "end", "until", "interval")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Check, in another thread, until the source is complete or the time is up."""
        event: str | list[str]
        try:
            name = connection_of(self.source)
            connection = await BaseHook.aget_connection(name) if name else None
            place = await asyncio.to_thread(_ADDRESS[self.source], connection)
            while event := await asyncio.to_thread(lacks, self.source, place, self.end):
                if datetime.now(UTC) >= self.until:
                    break
                await asyncio.sleep(self.interval)
        except ChimeraError as error:
            where = f"{error.where}, seen from the triggerer"
            event = [error.expected, error.came, where, error.remedy]
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]  # Airflow's has no types


@own_words()
def lacks(source: str, place: object, end: datetime) -> str:
    """Return what a source lacks of the hours before `end`; "": nothing, or it does not answer.

    Raises:
        ChimeraError: Files can't be listed or read; going on would give an empty hour.
    """
    from include.chimera.sources.completeness import LACKS  # noqa: PLC0415 - heavy

    try:
        return LACKS[source](place, end)
    except ChimeraError as error:
        if source in FILES:
            raise
        logger.warning("%s does not answer: %s", source, error)
        return ""
