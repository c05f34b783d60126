"""Settings: the only reader of the environment.

Every setting is an environment variable `CHIMERA_<NAME>` with a default that works on a laptop.
Secrets are not here: they come through Airflow connections.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path  # noqa: TC003 - pydantic resolves it at run time
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from include.chimera.errors import ConfigurationError
from include.chimera.paths import STATE
from include.chimera.window import Run, floor_hour

_UNREADABLE = frozenset("%[]*?\\")


@dataclass(frozen=True)
class PinnedLake:
    """Versions of another lake's tables, which a preview reads in place.

    Args:
        lake: The root of that lake.
        versions: Version by `<layer>.<table>`; it reads no other table of that lake.
    """

    lake: str
    versions: dict[str, int]


class Settings(BaseSettings):
    """Everything that can be configured; frozen once read."""

    model_config = SettingsConfigDict(
        env_prefix="CHIMERA_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    state_dir: Path = Field(STATE, description="Folder of all local state")
    lake_root: str = Field("", description="Root of the lake; default <state_dir>/lake")
    store_connection: str = Field(
        "",
        description="Airflow connection (type aws) with the object store's credentials; none: the "
        "`AWS_…` variables, or the machine's own role",
    )
    profile: str = Field(
        "chimera",
        min_length=1,
        description="The platforms that are read, by folder of include/profiles; several are "
        "separated by commas",
    )
    api_logs_root: str = Field(
        "",
        description="Root of the API's JSON-lines logs, a folder or s3://<bucket>/<folder>; "
        "default <state_dir>/sources/api_logs",
    )
    evaluations_root: str = Field(
        "",
        description="Root of the evaluation reports of garak, promptfoo, inspect and AVID, a "
        "folder or s3://<bucket>/<folder>; default <state_dir>/sources/reports",
    )
    evaluations_timezone: str = Field(
        "UTC",
        description="Time zone of times in evaluation reports that name none, such as garak's: "
        "that of the machine that ran it, like Europe/Berlin",
    )
    spans_root: str = Field(
        "",
        description="Root of the OpenTelemetry Collector's files of spans, a folder or "
        "s3://<bucket>/<folder>; default <state_dir>/sources/otel",
    )
    records_root: str = Field(
        "",
        description="Root of the files of JSON records that profiles such as langfuse read, a "
        "folder or s3://<bucket>/<folder>; default <state_dir>/sources/json",
    )
    logs_connection: str = Field(
        "",
        description="Airflow connection (type aws) of the sources' files (logs, reports, spans, "
        "records) in an object store; none: the lake's store",
    )
    task_logs_root: str = Field(
        "",
        description="Root of Airflow's task logs, as in [logging] remote_base_log_folder; default "
        "<state_dir>/logs/tasks",
    )
    log_days: int = Field(
        30, ge=1, description="Age at which local logs and told alerts are removed, in days"
    )

    schedule: str = Field("0 * * * *", description="Cron expression of the hourly DAG, UTC")
    start_date: datetime | None = Field(
        None,
        description="First hour that is due, UTC; none: the last full hour when the first run "
        "begins",
    )
    end_date: datetime | None = Field(
        None, description="Last hour that is due (inclusive), UTC; none: no end"
    )
    catch_up_runs: int = Field(
        2,
        ge=0,
        description="Missed hours that run at once, beside the schedule's own; 0: the schedule "
        "itself runs each hour from the start date on, in order, one at a time",
    )
    retry_base_seconds: float = Field(
        60.0, gt=0, description="First retry's delay; the n-th waits 2^n times as long"
    )
    deadline_seconds: float = Field(
        600.0, gt=0, description="Age of a run, from its queueing on, at which it is told as late"
    )
    freshness_target: float = Field(
        0.99,
        gt=0,
        le=1,
        description="Share of a month's hours that the health page expects of each table by then: "
        "of 720, seven may be later",
    )
    timeout_base_seconds: float = Field(
        60.0, gt=0, description="What counts as a minute in the timeouts of tasks and runs"
    )
    source_wait_seconds: float = Field(
        300.0,
        ge=0,
        description="How long an hour waits for a source that is not complete; 0: it does not wait",
    )
    max_active_tasks: int = Field(8, ge=1, description="Tasks of one run of the hourly DAG at once")
    app_db_slots: int = Field(
        3, ge=1, description="Slots of the pool app_db: connections to the application's database"
    )
    duckdb_slots: int = Field(
        4, ge=1, description="Slots of the pool duckdb: tasks that hold a DuckDB, over all workers"
    )
    workers: int = Field(
        0,
        ge=0,
        description="Celery workers that `make run` and `make up` start; 0: none, the scheduler's "
        "LocalExecutor runs the tasks",
    )
    worker_concurrency: int = Field(4, ge=1, description="Tasks at once on each of these workers")
    alert_emails: str = Field(
        "", description="Addresses that alerts go to by e-mail, separated by commas"
    )
    dead_letters_alert: int = Field(
        100, ge=0, description="Dead letters of a run's hours above which they are told"
    )
    lookback_hours: int = Field(
        1, ge=0, description="Hours before the window that logs and metrics may still change"
    )
    overlap_minutes: int = Field(
        10, ge=0, description="How far a mutable table is read again behind its watermark"
    )
    blind_lag_minutes: int = Field(
        60,
        ge=1,
        description="How far behind the clock mutable tables are read where the role can't see "
        "other sessions' transactions; longer than any transaction of the application",
    )
    scrape_step_seconds: int = Field(
        60, ge=1, le=3600, description="Step of the Prometheus range queries"
    )
    letter_days: int = Field(
        30, ge=1, description="Days after which the payloads of dead letters are erased"
    )
    vacuum_hours: int = Field(168, ge=168, description="Age at which unused files are removed")
    compact_files: int = Field(
        8, ge=2, description="Files in one partition that make a compaction worthwhile"
    )

    duckdb_memory_limit: str = Field("512MB", description="DuckDB's memory limit per process")
    duckdb_threads: int = Field(2, ge=1, description="DuckDB's threads per process")
    warm_start: bool = Field(True, description="Load what tasks need before they are forked")
    traces: Path | None = Field(
        None, description="Folder of real traces that the sample application replays"
    )
    rows_per_hour: int = Field(
        5000, ge=1000, description="Generations per hour that the sample application makes up"
    )

    fault_point: str = Field(
        "",
        pattern=r"^([a-z]+\.[a-z_]+=(kill|stop))?$",
        description="Step at which a test kills or stops the process, `<step>=kill|stop`",
    )
    engine: Literal["duckdb", "spark"] = Field(
        "duckdb",
        description="What computes the models: DuckDB in each task, or a Spark server "
        "(docs/scale.md); gates and commits are DuckDB's and delta-rs' with either",
    )
    spark_remote: str = Field(
        "",
        description="Address of the Spark Connect server, sc://<host>:<port>; none: the Airflow "
        "connection `spark`, which may hold a token",
    )
    run: Run | None = Field(
        None, description="The DAG run this process works for, as JSON; none: standalone"
    )
    published: PinnedLake | None = Field(
        None,
        description="What a preview reads of another lake, as JSON (`./chimera preview` sets it); "
        "none: a process reads its own lake",
    )

    @field_validator("start_date", "end_date")
    @classmethod
    def _whole_hours(cls, moment: datetime | None) -> datetime | None:
        if moment is None:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        if moment != floor_hour(moment):
            raise ConfigurationError(
                expected="a whole hour",
                came=moment.isoformat(),
                where="CHIMERA_START_DATE or CHIMERA_END_DATE",
                remedy="write it as YYYY-MM-DDTHH:00:00+00:00",
            )
        return moment.astimezone(UTC)

    @field_validator("evaluations_timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise _unknown_zone(name) from error
        return name

    @model_validator(mode="after")
    def _require_start(self) -> Settings:
        """Refuse a schedule that runs each hour in order, but from no first one on."""
        if not self.catch_up_runs and self.start_date is None:
            raise ConfigurationError(
                expected="a first hour, from which on the schedule runs each one in order",
                came="CHIMERA_CATCH_UP_RUNS=0 alone",
                where="CHIMERA_START_DATE",
                remedy="set it, or let missed hours be caught up beside the schedule",
            )
        return self

    @model_validator(mode="after")
    def _require_readable_root(self) -> Settings:
        """Refuse a root that a reader of the lake would misread.

        `delta_scan` decodes `%`; delta-rs reads a backslash as `/` and refuses brackets; DuckDB
        expands `*` and `?` (measured with duckdb 1.5.5 and deltalake 1.6.3).
        """
        found = {sign for sign in self.lake if sign in _UNREADABLE or not sign.isprintable()}
        if found:
            raise ConfigurationError(
                expected="a lake whose path has no control characters and none of % [ ] * ? and \\",
                came=" ".join(ascii(sign) for sign in sorted(found)),
                where=f"CHIMERA_LAKE_ROOT or CHIMERA_STATE_DIR: {self.lake!r}",
                remedy="set CHIMERA_LAKE_ROOT to another folder, or move the project",
            )
        return self

    @property
    def pools(self) -> dict[str, int]:
        """Airflow's pools that tasks wait in, with their slots."""
        return {"app_db": self.app_db_slots, "duckdb": self.duckdb_slots}

    @property
    def lake(self) -> str:
        """The lake's root: a local folder or an object store's URL, without a final slash."""
        return _normal(self.lake_root or str(self.state_dir / "lake"))

    @property
    def read_roots(self) -> tuple[str, ...]:
        """The roots of the lakes that are read: this one, in a preview also the published one."""
        return (self.lake, self.published.lake) if self.published else (self.lake,)

    @property
    def reports(self) -> str:
        """The root of the pages for people: in the lake if it has a root of its own."""
        return f"{self.lake}/_reports" if self.lake_root else str(self.state_dir / "reports")

    @property
    def task_logs(self) -> str:
        """The root of Airflow's task logs, without a final slash."""
        return _normal(self.task_logs_root or str(self.state_dir / "logs" / "tasks"))

    @property
    def source_roots(self) -> dict[str, str]:
        """The root of each source that is files, without a final slash."""
        roots = {
            "api_logs": self.api_logs_root,
            "reports": self.evaluations_root,
            "otel": self.spans_root,
            "json": self.records_root,
        }
        return {
            source: _normal(root or str(self.state_dir / "sources" / source))
            for source, root in roots.items()
        }

    @property
    def api_logs(self) -> str:
        """The root of the API's logs, without a final slash."""
        return self.source_roots["api_logs"]


def _unknown_zone(name: str) -> ConfigurationError:
    return ConfigurationError(
        expected="a time zone of the IANA database",
        came=repr(name),
        where="CHIMERA_EVALUATIONS_TIMEZONE",
        remedy="write it like Europe/Berlin or UTC",
    )


def _normal(root: str) -> str:
    """Return a root without a final slash, and a URL also without `//` and `/./`.

    An object store takes these as parts of a key; some clients leave them out before they sign it.
    """
    scheme, separator, path = root.rpartition("://")
    return f"{scheme}://{posixpath.normpath(path)}" if separator else path.rstrip("/")


class ObjectStore(BaseSettings):
    """How to reach an object store: the variables that every AWS tool reads."""

    model_config = SettingsConfigDict(env_prefix="AWS_", frozen=True, extra="ignore")

    endpoint_url: str = Field("", description="Endpoint of an S3-compatible store; none: AWS")
    region: str = Field("us-east-1", description="Region of the bucket")
    access_key_id: str = Field("", description="Access key; none: the machine's own role")
    secret_access_key: SecretStr = Field(SecretStr(""), description="Secret of the access key")
    session_token: SecretStr = Field(SecretStr(""), description="Token of a temporary key")


@cache
def get_object_store() -> ObjectStore:
    """Read the object store's variables once per process."""
    return ObjectStore()


@cache
def get_settings() -> Settings:
    """Read the environment once per process.

    Raises:
        ConfigurationError: A variable has an invalid value.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = error.errors()
        names = (".".join(str(part) for part in item["loc"]) for item in wrong)
        raise ConfigurationError(
            expected="values that the settings accept",
            came="; ".join(item["msg"] for item in wrong),
            where=", ".join(f"CHIMERA_{name.upper()}" for name in names),
            remedy="see docs/settings.md",
        ) from error
