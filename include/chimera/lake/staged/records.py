"""Records of a run: a JSON file for each record, a class for each kind of record.

Records of a table are in `<lake>/_runs/<run>/<layer>.<table>/`, those of the whole run in
`<lake>/_runs/<run>/`. The same classes read the previous version's records: unknown keys are
ignored, new fields have defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

from pydantic import BeforeValidator, ConfigDict, PlainSerializer, TypeAdapter, ValidationError

from include.chimera.errors import StageDamagedError, TerminalError
from include.chimera.lake.store import storage
from include.chimera.lake.store.places import decoded, encoded
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.settings import get_settings
from include.chimera.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.chimera.window import Run

WHOLE_RUN = "."  # stands for a table where a record is about the run


def _window(bounds: tuple[str, str]) -> Window:
    try:
        return Window.parse(*bounds)
    except (TypeError, TerminalError):
        raise ValueError from None  # which pydantic reports with its place


Bounds = Annotated[
    Window,
    BeforeValidator(_window),
    PlainSerializer(lambda window: [window.start.isoformat(), window.end.isoformat()]),
]
"""A window, serialized as its two bounds, ISO 8601 in UTC."""


@dataclass(frozen=True)
class Record:
    """Base class of records: fields are stored, properties are derived."""

    file_name: ClassVar[str]
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="constants")


AnyRecord = TypeVar("AnyRecord", bound=Record)
Found = TypeVar("Found")


def run_folder(run: Run) -> str:
    """Return the folder of everything that belongs to one run."""
    return f"{get_settings().lake}/_runs/{run.folder}"


def table_folder(run: Run, table: str) -> str:
    """Return the folder of one table's staged files and records in one run."""
    return run_folder(run) if table == WHOLE_RUN else f"{run_folder(run)}/{encoded(table)}"


def record_place(run: Run, table: str, kind: type[Record]) -> str:
    """Return the path of a table's record of this class."""
    return f"{table_folder(run, table)}/{kind.file_name}"


def write_record(run: Run, table: str, record: Record) -> None:
    """Write a table's record atomically."""
    storage.write_text(record_place(run, table, type(record)), to_json(record))


def read_record(run: Run, table: str, kind: type[AnyRecord]) -> AnyRecord | None:
    """Read a record, None if it does not exist.

    Raises:
        StageDamagedError: It is not a record that this or the previous version writes.
        LakeError: The disk or store failed.
    """
    return read_at(record_place(run, table, kind), kind)


def read_records(run: Run, kind: type[AnyRecord]) -> dict[str, AnyRecord]:
    """Read all the run's records of one class, by table."""
    return of_each_table(run, lambda table: read_record(run, table, kind))


def of_each_table(run: Run, read: Callable[[str], Found | None]) -> dict[str, Found]:
    """Read something of all the run's tables at once, and leave out those that have none."""
    tables = tables_of(run)
    pairs = zip(tables, storage.at_once(read, tables), strict=True)
    return {table: found for table, found in pairs if found is not None}


def tables_of(run: Run) -> list[str]:
    """Return the tables that have a folder in the run."""
    return [decoded(folder) for folder in storage.folders(run_folder(run))]


def read_at(place: str, kind: type[AnyRecord]) -> AnyRecord | None:
    """Read the record at a path, as `read_record` does."""
    with storage_errors(f"reading {place}"):
        text = storage.read_text(place)
    return None if text is None else from_json(kind, text, place)


def to_json(record: Record) -> str:
    """Return a record as JSON text."""
    return _adapter(type(record)).dump_json(record, indent=1).decode()


def from_json(kind: type[AnyRecord], text: str, where: str) -> AnyRecord:
    """Read a record from JSON text, ignoring unknown keys.

    Raises:
        StageDamagedError: It is not JSON, or does not fit the class; the message quotes no value.
    """
    try:
        return _adapter(kind).validate_json(text)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_input=False, include_context=False)
        raise StageDamagedError(
            expected=f"the {kind.__name__} that a run wrote there",
            came=f"{first['type']} at {'.'.join(map(str, first['loc'])) or 'its beginning'}",
            where=where,
            remedy="clear the task that writes it (extract, model, gate or report) and what "
            "follows; check the disk",
        ) from None


_adapters = cache(TypeAdapter)


def _adapter(kind: type[AnyRecord]) -> TypeAdapter[AnyRecord]:
    found: TypeAdapter[AnyRecord] = _adapters(kind)  # type: ignore[arg-type]  # a class has a hash
    return found
