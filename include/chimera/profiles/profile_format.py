"""The format of `include/profiles/<name>/profile.yml`: for each bronze table, what fills it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

if TYPE_CHECKING:
    from pathlib import Path


class Part(BaseModel):
    """A part of the file; a key that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def files(self) -> list[str]:
        """The files beside this one that it names."""
        return []


class PostgresReader(Part):
    """A table or view of the platform's PostgreSQL, which is read in place.

    Args:
        reader: `postgres`.
        table: Its name as SQL writes it; without a schema, by the login's search path.
        query: File beside this one with a query over the table that returns the contract's
            columns; none: the table's own columns bear the contract's names.
        key: The table's columns from which the query makes the contract's key. If a unique index
            covers them, repeated keys are not looked for.
        flush_seconds: How long after its `updated_at`, which then is an application's clock, a
            row may arrive; 0: it is the database's clock, and open transactions are seen.
        daily: The rows that the daily comparison of keys looks for: `deleted` by the platform, or
            `missing` in the lake because they arrived too late. A platform that prunes old rows,
            which the lake keeps, has `missing`.
    """

    reader: Literal["postgres"]
    table: str = Field(min_length=1)
    query: str = ""
    key: tuple[str, ...] = ()
    flush_seconds: int = Field(0, ge=0)
    daily: Literal["deleted", "missing"] = "deleted"

    @property
    def files(self) -> list[str]:
        """The query's file."""
        return [self.query] if self.query else []

    @property
    def source(self) -> str:
        """What is waited for; the name of the Airflow connection, too."""
        return "app_db"

    @property
    def shown(self) -> str:
        """What is read, for the DAGs' essays."""
        return f"`{self.table}`"


class FilesReader(Part):
    """Files in a folder or a bucket.

    Args:
        reader: `files`.
        format: The format, which decides the code that reads them and the setting of their root.
        query: For `json`: file beside this one with DuckDB's SQL that makes rows of documents.
        known: For `json`: DuckDB's predicate of a `document` that the platform writes, though no
            table may take anything of it. Other files of which none does are told as foreign.
    """

    reader: Literal["files"]
    format: Literal["api_logs", "reports", "otel", "json"]
    query: str = ""
    known: str = "false"

    @model_validator(mode="after")
    def _require_query(self) -> FilesReader:
        """Refuse JSON without a query, and a query of what is not JSON."""
        if (self.format == "json") != bool(self.query):
            raise ValueError("`json` has a query, and no other format has")  # noqa: EM101, TRY003 - pydantic's way
        return self

    @property
    def files(self) -> list[str]:
        """The query's file."""
        return [self.query] if self.query else []

    @property
    def source(self) -> str:
        """What is waited for: each format has its own root."""
        return self.format

    @property
    def shown(self) -> str:
        """What is read, for the DAGs' essays."""
        return f"files (`{self.format}`)"


class PrometheusReader(Part):
    """Metrics of a Prometheus.

    Args:
        reader: `prometheus`.
        metrics: File beside this one with the map of the metrics (`metric_maps.MetricMap`).
    """

    reader: Literal["prometheus"]
    metrics: str = Field(min_length=1)

    @property
    def files(self) -> list[str]:
        """The map's file."""
        return [self.metrics]

    @property
    def source(self) -> str:
        """What is waited for; the name of the Airflow connection, too."""
        return "prometheus"

    @property
    def shown(self) -> str:
        """What is read, for the DAGs' essays."""
        return "Prometheus"


Reader = PostgresReader | FilesReader | PrometheusReader


class Profile(Part):
    """One platform.

    Args:
        platform: What people call it.
        tables: Its reader by bronze table, `bronze.<table>`.
    """

    platform: str
    tables: dict[str, Annotated[Reader, Field(discriminator="reader")]] = Field(min_length=1)


def read_document(path: Path) -> object:
    """Read a YAML file.

    Raises:
        ValueError: It is not YAML.
    """
    try:
        document: object = yaml.load(path.read_text(), yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    return document


def words_of(error: ValueError) -> str:
    """Return what is wrong with a document: by place where it is not of its format."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in found)
    return str(error)
