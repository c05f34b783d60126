"""Search Airflow's JSON task logs with DuckDB, in a local folder or an object store."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import duckdb

from include.chimera.errors import ConfigurationError
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import connect, quote, reach_object_store
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from duckdb import DuckDBPyConnection

LEVELS = ("debug", "info", "warning", "error", "critical")
# Fields that every line has; the others stay in `fields`, as JSON.
_TEXTS = (
    "level", "event", "logger", "dag_id", "run_id", "task_id", "correlation_id", "source",
    "window_start", "window_end",
)  # fmt: skip
_PATTERNS = {"task": "task_id", "logger": "logger"}  # condition to column
# Bounded, so that an endless line can't fill this process's memory.
_LONGEST_LINE = 16 * 1024 * 1024


@dataclass(frozen=True)
class FoundLine:
    """A line of a task log.

    Args:
        logged_at: When, UTC.
        level: One of `LEVELS`.
        correlation_id: The run's correlation id.
        task_id: The task that wrote it.
        event: The message.
        json: The whole line.
        filename: The log that holds it.
    """

    logged_at: datetime
    level: str | None
    correlation_id: str | None
    task_id: str | None
    event: str | None
    json: str
    filename: str


@dataclass(frozen=True)
class LogQuery:
    """The conditions of a search; None leaves a condition out.

    Args:
        correlation_id: The run's correlation id.
        run_id: Airflow's run id.
        task: Regular expression that matches a part of the task id.
        logger: Regular expression that matches a part of the logger's name.
        level: Lowest level.
        text: Part of the message, case-insensitive.
        since: Earliest time, inclusive, UTC.
        limit: Maximum number of lines; the newest are kept.
        attempts_at: Only each task's last attempt that had begun by then, UTC.
    """

    correlation_id: str | None = None
    run_id: str | None = None
    task: str | None = None
    logger: str | None = None
    level: str | None = None
    text: str | None = None
    since: datetime | None = None
    limit: int = 200
    attempts_at: datetime | None = None


def search_logs(query: LogQuery, root: str | None = None) -> list[FoundLine]:
    """Return the matching lines in order of time.

    Lines from before the run's window was known (Airflow's own, at the start of a task) carry no
    correlation id; they get the one of their run id.

    Args:
        query: The conditions.
        root: Airflow's log folder or its object store's URL; None: the setting `task_logs_root`.
    """
    place = root or get_settings().task_logs
    columns = ", ".join(field.name for field in fields(FoundLine))
    lines = (
        f"select cast(json_extract_string(json, '$.timestamp') as timestamptz) as logged_at, "
        f"{', '.join(map(_text, _TEXTS))}, json, filename, "
        # A deferred attempt has more files: `attempt=1.log.trigger.<id>.log`.
        r"regexp_extract(filename, '^.*/attempt=\d+') as attempt from read_ndjson_objects("
        f"{quote(f'{place}/**/*.log')}, filename = true, ignore_errors = true, "
        f"maximum_object_size = {_LONGEST_LINE})"
    )
    with connect() as connection:
        _require_patterns(connection, query)
        if storage.is_remote(place):
            reach_object_store(connection)
        if not connection.execute(f"from glob({quote(f'{place}/**/*.log')}) limit 1").fetchone():
            return []
        found = connection.execute(
            f"with lines as materialized ({lines}) select {columns} from (from lines where "
            f"{' and '.join(_conditions(query))} order by logged_at desc limit {query.limit}) "
            "order by logged_at"
        )
        return [FoundLine(*line) for line in found.fetchall()]


def _text(name: str) -> str:
    own = f"json_extract_string(json, '$.{name}')"
    if name in {"dag_id", "run_id", "task_id"}:
        # If a line lacks its DAG, run or task, take it from the folder's name.
        own = f"coalesce({own}, nullif(regexp_extract(filename, '{name}=([^/]+)', 1), ''))"
    if name == "correlation_id":
        # Same as `Run.correlation_id`, for lines from before the run was known. It uses the column
        # `run_id` of the same select.
        own = f"coalesce({own}, left(sha256(run_id), 12))"
    return f"{own} as {name}"


def _require_patterns(connection: DuckDBPyConnection, query: LogQuery) -> None:
    for name in _PATTERNS:
        try:
            connection.execute("select regexp_matches('', $1)", [getattr(query, name) or ""])
        except duckdb.Error:
            raise ConfigurationError(
                expected="a regular expression as RE2 has it",
                came=f"{getattr(query, name)!r}",
                where=f"--{name}",
                remedy=r"put a backslash before each of ( ) [ ] { } * + ? that stands for itself",
            ) from None


def _conditions(query: LogQuery) -> Iterator[str]:
    yield "json is not null"  # null: the writer was killed in the middle of the line
    given = {each.name: getattr(query, each.name) for each in fields(query)}
    if given["correlation_id"]:
        wanted = f"correlation_id = {quote(given['correlation_id'])}"
        yield f"run_id in (select run_id from lines where {wanted})"
    if given["run_id"]:
        yield f"run_id = {quote(given['run_id'])}"
    for name, column in _PATTERNS.items():
        if given[name]:
            yield f"regexp_matches({column}, {quote(given[name])})"
    if given["level"]:
        names = LEVELS[LEVELS.index(given["level"]) :]
        yield f"level in ({', '.join(map(quote, names))})"
    if given["text"]:
        yield f"contains(lower(event), lower({quote(given['text'])}))"
    yield from _times(query)


def _times(query: LogQuery) -> Iterator[str]:
    if query.since:
        yield f"logged_at >= timestamptz {quote(query.since.isoformat())}"
    if query.attempts_at:
        yield f"attempt in ({_attempts_at(query.attempts_at)})"


def _attempts_at(moment: datetime) -> str:
    begun = "select attempt, min(logged_at) as begun_at from lines group by attempt"
    return (
        f"select arg_max(attempt, begun_at) from ({begun}) where begun_at <= "
        f"timestamptz {quote(moment.isoformat())} group by regexp_replace(attempt, '[^/]+$', '')"
    )
