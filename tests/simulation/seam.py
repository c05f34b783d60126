"""The seam: the only calls of the product that the simulation replaces.

Each call to storage, to the Delta log, to DuckDB where it touches files, and to a clock is a step
of the world, with the faults that it can have; then the real thing does it: pyarrow, delta-rs and
DuckDB, on a memory disk. Three things are done otherwise, for speed: a version's rows are read from
the files that delta-rs lists for it instead of by `delta_scan`, sessions are pooled, and threads
that wait for many requests do them one after the other. GX is left out: a gate's verdict comes from
the split that is tested to agree with it (`actors.py`).
"""

from __future__ import annotations

import errno
import os
import random
import sys
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.table import TableAlterer, TableOptimizer

from include.chimera.lake.delta import commits, scans
from include.chimera.lake.ops_tables import ledger
from include.chimera.lake.publish import stop_switch  # noqa: F401 - loaded before it is patched
from include.chimera.lake.staged import fencing_tokens
from include.chimera.lake.store import duckdb_sessions, durability, places, storage
from include.chimera.lake.upkeep import orphaned_files, restore  # noqa: F401 - as above
from include.chimera.operations import replay
from include.chimera.quality import acceptance, gate
from include.chimera.quality.gx import checkpoint
from include.chimera.quality.rules.book import rule_book
from include.chimera.quality.rules.good_and_bad_rows import suite_expectations
from include.chimera.settings import get_settings
from include.chimera.sources.api_logs import extract as api_logs
from include.chimera.sources.postgres import sessions
from tests.simulation import quick_log
from tests.simulation.judging import judged
from tests.simulation.world import COMMIT_FAULTS, READ_FAULTS, WRITE_FAULTS, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_NO_FAULTS: frozenset[str] = frozenset()
world: World = None  # type: ignore[assignment]  # the one that is played; `play` sets it
_listeners: list[Callable[[], None]] = []


def _replace(original: Any, new: Any) -> None:
    """Put something in the place of a name of the product, wherever it was imported."""
    for name, module in list(sys.modules.items()):
        if name.startswith("include.chimera"):
            for key, value in list(vars(module).items()):
                if value is original:
                    setattr(module, key, new)


# -- errors, as each engine words them ------------------------------------------------------------


def _storage_error(fault: str) -> Exception:
    code = errno.ENOSPC if fault == "full" else errno.EIO
    return OSError(code, os.strerror(code))


def _delta_error(fault: str) -> Exception:
    if fault == "echo":  # the put was tried again and found its own entry
        return CommitFailedError("Transaction failed: a concurrent transaction committed")
    if fault == "full":
        return DeltaError("Generic LocalFileSystem error: No space left on device (os error 28)")
    return DeltaError("Generic S3 error: error sending request, HTTP status 503")


def _duckdb_error(fault: str) -> Exception:
    if fault == "full":
        return duckdb.IOException("Could not write: No space left on device")
    return duckdb.IOException("HTTP error 503")


# -- one call -------------------------------------------------------------------------------------


def _call(
    label: str,
    possible: frozenset[str],
    error: Callable[[str], Exception],
    effect: Callable[[], Any],
    tear: Callable[[Callable[[], Any]], Any] = lambda effect: effect(),
) -> Any:
    """Make one step of a call; let a fault come before, after or in the middle of its effect."""
    fault = world.step(label, possible)
    if fault is None:
        return effect()
    if fault in ("away", "full"):
        raise error(fault)
    if fault == "torn":
        tear(effect)
        world.die()
    effect()
    if fault == "kill_after":
        world.die()
    raise error(fault)


def _committed(effect: Callable[[], Any]) -> Any:
    """Do what may make a version, and tell who wants to know."""
    result = effect()
    if world.acting is not None:
        for listener in _listeners:
            listener()
    return result


def _short(place: object) -> str:
    """Return a place without what differs from one run to the next."""
    name = str(place).removeprefix(str(world.lake))
    parts = [part for part in name.split("/") if not part.startswith(("part-", ".", "chimera-"))]
    return "/".join(parts).split("#")[0]


def _cut(place: str) -> None:
    path = Path(place)
    if path.is_file():
        os.truncate(path, path.stat().st_size // 2)


# -- storage --------------------------------------------------------------------------------------


def _storage(name: str, possible: frozenset[str], tear: Callable[..., None] | None = None) -> None:
    original = getattr(storage, name)

    @wraps(original)
    def called(place: Any, *more: Any, **options: Any) -> Any:
        shown = _short(place if isinstance(place, str) else "")
        actor = world.acting
        if actor is not None:
            actor.seen[shown] = world.count
        return _call(
            f"{name.strip('_')} {shown}",
            possible,
            _storage_error,
            lambda: original(place, *more, **options),
            lambda effect: tear(effect, place, *more) if tear else effect(),
        )

    _replace(original, called)


def _torn_write(write: Callable[[], Any], place: str, content: bytes) -> None:
    """Leave a part beside the place: an atomic write that is cut off changes nothing there."""
    del write
    folder, _, name = place.rpartition("/")
    storage.make_folder(folder)
    Path(f"{folder}/.{name}.cut").write_bytes(content[: len(content) // 2])


def _torn_copy(copy: Callable[[], Any], _: str, target: str) -> None:
    copy()
    _cut(target)


def _replace_storage() -> None:
    for name in ("_listed", "existing", "open_file"):
        _storage(name, READ_FAULTS)
    _storage("write_bytes", WRITE_FAULTS, _torn_write)
    _storage("copy_file", WRITE_FAULTS, _torn_copy)
    _replace(_create_text, _created_text)
    for name in ("_delete_file", "delete_folder", "move_folder"):
        _storage(name, WRITE_FAULTS - {"torn"})
    at_once = storage.at_once
    _replace(at_once, lambda work, items: [work(item) for item in items])
    walk = storage.walk
    _replace(walk, lambda place, **options: [_aged(file) for file in walk(place, **options)])
    _replace(durability._sync, lambda paths: [_flush(path) for path in sorted(paths)])
    _replace(ThreadPoolExecutor, _InOrder)


_create_text = storage.create_text


@wraps(_create_text)
def _created_text(place: str, text: str) -> bool:
    """Create a file unless it exists; a put that is tried again may meet itself."""
    fault = world.step(f"create_text {_short(place)}", COMMIT_FAULTS)
    if fault in ("away", "full"):
        raise _storage_error(fault)
    is_new = _committed(lambda: _create_text(place, text))
    if is_new:
        world.synced[place] = Path(place).stat().st_size
    if fault == "kill_after":
        world.die()
    if fault == "lost":
        raise _storage_error(fault)
    return is_new and fault != "echo"


def _aged(file: storage.StoredFile) -> storage.StoredFile:
    """Return a file with the world's time of its last change instead of the machine's."""
    return storage.StoredFile(file.place, file.size_bytes, world.now)


def _flush(path: Path) -> None:
    """Stand in for fsync: what is flushed survives a power cut."""
    if _call(f"fsync {_short(path.parent)}", READ_FAULTS, _storage_error, lambda: None) is None:
        world.synced[str(path)] = path.stat().st_size if path.is_file() else 0


class _InOrder:
    """Stands in for a pool of threads: work is done at once, by the actor itself."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> _InOrder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *given: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*given, **named))
        except Exception as error:  # noqa: BLE001 - raised again where the result is asked for
            future.set_exception(error)
        return future

    def map(self, work: Callable[..., Any], *items: Iterable[Any]) -> Iterator[Any]:
        return iter([work(*item) for item in zip(*items, strict=True)])


# -- Delta log ------------------------------------------------------------------------------------


def _delta(owner: type, name: str, possible: frozenset[str], where: Callable[[Any], str]) -> None:
    original = getattr(owner, name)
    commit_or_read = _committed if possible - READ_FAULTS else lambda effect: effect()

    @wraps(original)
    def called(self: Any, *given: Any, **options: Any) -> Any:
        uri = (*given, options.get("table_uri"))[0] if name == "__init__" else where(self)
        place = str(uri).removeprefix("file://")
        if not place.startswith(str(world.lake)):  # a draft in a folder of the process's own
            return original(self, *given, **options)
        return _call(
            f"delta {name.strip('_')} {_short(place)}",
            possible,
            _delta_error,
            lambda: commit_or_read(lambda: original(self, *given, **options)),
        )

    setattr(owner, name, called)


_DELTA_CALLS = {
    "history": READ_FAULTS,
    "update_incremental": READ_FAULTS,
    "create_write_transaction": COMMIT_FAULTS,
}
_ALTERATIONS = (
    *("add_constraint", "drop_constraint", "set_table_properties"),
    *("set_table_description", "add_feature"),
)


def _uri(table: Any) -> str:
    return str(table.table_uri)


def _replace_delta(*, is_quick: bool) -> None:
    kind: Any = quick_log.QuickTable if is_quick else DeltaTable
    _replace(DeltaTable, kind)
    _delta(kind, "__init__", READ_FAULTS, _uri)
    for name, possible in _DELTA_CALLS.items():
        _delta(kind, name, possible, _uri)
    _delta(DeltaTable, "restore", COMMIT_FAULTS, _uri)
    _delta(DeltaTable, "create_checkpoint", WRITE_FAULTS - {"torn"}, _uri)
    _delta(TableOptimizer, "compact", COMMIT_FAULTS, lambda part: _uri(part.table))
    for name in _ALTERATIONS:
        _delta(TableAlterer, name, COMMIT_FAULTS - {"echo"}, lambda part: _uri(part.table))
    create, write = kind.create, commits.write_deltalake

    def created(place: str, *given: Any, **options: Any) -> Any:
        return _commit_at(str(place), "create", lambda: create(place, *given, **options))

    def written(table: Any, *given: Any, **options: Any) -> Any:
        real = table._delta_rs() if is_quick else table
        return _commit_at(_uri(table), "write", lambda: write(real, *given, **options))

    kind.create = staticmethod(created)
    _replace(write, written)


def _commit_at(place: str, name: str, effect: Callable[[], Any]) -> Any:
    place = place.removeprefix("file://")
    if not place.startswith(str(world.lake)):
        return effect()
    possible = COMMIT_FAULTS - {"echo"}
    label = f"delta {name} {_short(place)}"
    return _call(label, possible, _delta_error, lambda: _committed(effect))


# -- DuckDB ---------------------------------------------------------------------------------------


class Connection:
    """A DuckDB session whose statements are steps where they read or write files."""

    def __init__(self, raw: duckdb.DuckDBPyConnection, pool: list[Any]) -> None:
        self._raw, self._pool = raw, pool

    def execute(self, query: Any, *given: Any) -> Any:
        text = str(query)
        if text.startswith("copy "):
            return _call("duckdb copy", WRITE_FAULTS, _duckdb_error, lambda: self._copied(text),
                         _cut_last)  # fmt: skip
        run = self._raw.execute
        if "_parquet(" in text or "delta_scan(" in text:
            return _call("duckdb read", READ_FAULTS, _duckdb_error, lambda: run(query, *given))
        return run(query, *given)

    def _copied(self, text: str) -> Any:
        rows = self._raw.execute(text).fetchall()
        return SimpleNamespace(fetchall=lambda: rows)

    def cursor(self) -> Connection:
        return Connection(self._raw.cursor(), [])

    def close(self) -> None:
        if self._pool:
            _clean(self._pool[0])
            _idle.append(self._pool.pop())
        self._raw.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


_idle: list[duckdb.DuckDBPyConnection] = []


def _connect(*_: Any, **__: Any) -> Connection:
    base = _idle.pop() if _idle else fresh_duckdb()
    return Connection(base.cursor(), [base])


def _clean(base: duckdb.DuckDBPyConnection) -> None:
    """Drop what the last user of a session left."""
    names = base.execute(
        "select 'schema ' || schema_name from duckdb_schemas() "
        "where not internal and database_name = 'memory' and schema_name <> 'main' "
        "union all select 'table ' || table_name from duckdb_tables() "
        "where schema_name = 'main' and not internal"
    ).fetchall()
    for (name,) in names:
        kind, _, text = name.partition(" ")
        base.execute(f'drop {kind} "{text}" cascade')


def _cut_last(write: Callable[[], Any]) -> None:
    rows = write().fetchall()
    if rows:
        _cut(rows[-1][0])


def fresh_duckdb() -> duckdb.DuckDBPyConnection:
    """Return a DuckDB that looks for nothing outside, in UTC."""
    opened = duckdb.connect(
        config={
            "threads": "1",
            "autoinstall_known_extensions": "false",
            "preserve_insertion_order": "false",
        }
    )
    opened.execute("set global TimeZone = 'UTC'")
    return opened


def _scan(table: DeltaTable, name: object) -> str:
    """Return a query of a version's rows, from the files that delta-rs lists for it."""
    del name
    schema = pa.schema(table.schema().to_arrow())
    columns = ", ".join(duckdb_sessions.identifier(name) for name in schema.names)
    paths = _paths_of(table)
    if not paths:
        return f"select {columns} from ({scans.empty(schema)})"
    listed = ", ".join(duckdb_sessions.quote(path) for path in paths)
    return (
        f"select {columns} from read_parquet([{listed}], "
        "hive_partitioning = true, hive_types_autocast = false)"
    )


_known_paths: dict[tuple[str, str, int], list[str]] = {}


def _paths_of(table: DeltaTable) -> list[str]:
    key = (table.table_uri, str(table.metadata().id), table.version())
    if key not in _known_paths:
        try:
            paths = table.file_uris()
        except DeltaError:  # opened without its list of files
            with world_asleep():
                paths = DeltaTable(table.table_uri, version=table.version()).file_uris()
        _known_paths[key] = [path.removeprefix("file://") for path in paths]
    return _known_paths[key]


@contextmanager
def world_asleep() -> Iterator[None]:
    """Let calls of the seam pass without a step."""
    current, world._current = world._current, None
    try:
        yield
    finally:
        world._current = current


def _replace_duckdb() -> None:
    _replace(duckdb_sessions.connect, _connect)
    _replace(scans.scan, _scan)
    _replace(scans.pin, lambda _, table, name: _scan(table, name))
    described = cache(lambda kinds: described_once(pa.schema(list(kinds))))
    described_once = duckdb_sessions.described
    _replace(described_once, lambda schema: described(tuple(schema)))


# -- clocks, chance, the source, GX -------------------------------------------------------------


class _Now(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return world.clock().astimezone(tz or UTC)


_drawn = fencing_tokens.draw_token


@wraps(_drawn)
def _token(*given: Any) -> int:
    token = _drawn(*given)
    if world.acting is not None:
        world.acting.token = token
    return token


def _seconds() -> float:
    return world.now.timestamp()


def _replace_clocks() -> None:
    clock = SimpleNamespace(
        time_ns=lambda: int(world.clock().timestamp() * 1_000_000) * 1000,
        time=lambda: world.clock().timestamp(),
        monotonic=_seconds,
    )
    for module in (fencing_tokens, replay):
        module.time = clock
    for module in (acceptance, checkpoint, ledger, orphaned_files, replay, api_logs):
        module.datetime = _Now
    _replace(_drawn, _token)
    commits.Retrying = _retrying
    identifiers = random.Random(0)  # noqa: S311 - names of files
    _replace(uuid.uuid4, lambda: uuid.UUID(int=identifiers.getrandbits(128), version=4))


def _retrying(**options: Any) -> Any:
    """Wait without waiting: others may act meanwhile."""
    options["sleep"] = lambda _: world.step("waits before it tries again")
    options["wait"] = lambda _: 0
    return _tenacity(**options)


_tenacity = commits.Retrying


def _replace_source_and_rules() -> None:
    for reader in (rule_book, suite_expectations):  # of files that nobody changes meanwhile
        _replace(reader, cache(reader))
    _replace(sessions.snapshot, _snapshot)
    _replace(gate.gate_database, _no_database)
    gate.gx_context = lambda _: SimpleNamespace(checkpoints=SimpleNamespace(get=lambda _: None))
    gate.keep_result = lambda _: None
    checkpoint.GatedCheckpoint._validate = lambda *_: None
    checkpoint.GatedCheckpoint._results = lambda self, _: self.judged
    prepare = gate.Gate.checkpoint

    def prepared(self: gate.Gate, context: Any) -> checkpoint.GatedCheckpoint:
        found = prepare(self, context)
        found.judged = judged(self)
        return found

    gate.Gate.checkpoint = prepared


def _snapshot(uri: str) -> Any:
    return world.application.snapshot(uri)


@contextmanager
def _no_database(*_: Any) -> Iterator[Path]:
    yield Path("none")


_is_installed: list[bool] = []


def install(*, is_quick: bool = True) -> None:
    """Replace the seam in this process, once.

    Args:
        is_quick: Whether logs are read and written by `quick_log` where it can.
    """
    if not _is_installed:
        _replace_storage()
        _replace_delta(is_quick=is_quick)
        _replace_duckdb()
        _replace_clocks()
        _replace_source_and_rules()
        _is_installed.append(True)


def play(new: World, listener: Callable[[], None]) -> None:
    """Make a world the one that the seam's calls are steps of."""
    global world  # noqa: PLW0603 - one at a time
    world = new
    _listeners[:] = [listener]
    _known_paths.clear()
    quick_log.forget()
    places.forget()
    get_settings.cache_clear()
