"""Looks at what a schedule left, and says what is wrong. Shares no code with the product.

It reads the logs' JSON and the files' Parquet itself, and compares each version of each table with
what the application ever held, and the final ones with what other engines read.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import duckdb
import duckdb_extension_delta
from deltalake import DeltaTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa

    from tests.simulation.world import Event, World

GENERATIONS, LOGS = "bronze.generations", "bronze.api_logs"
LATEST, HOURLY, DEV = "silver.stg_app__generations", "gold.agg_provider_hourly", "dev.orders"
KEYS = {
    GENERATIONS: ("generation_id", "_row_hash"),
    LOGS: ("_file", "_offset"),
    LATEST: ("generation_id",),
    HOURLY: ("_window_hour",),
    DEV: ("id",),
    "ops.dead_letters": ("letter_id", "event", "attempt"),
    "ops.window_ledger": ("run_id", "table_name", "attempt_token"),
}
_COUNTS = ("rows_read", "rows_published", "rows_refused", "rows_duplicate")
TIMES = {GENERATIONS: "updated_at", LOGS: "timestamp", LATEST: "created_at"}
_HOUR = timedelta(hours=1)
Row = dict[str, Any]
_session: list[duckdb.DuckDBPyConnection] = []


class UnreadableError(Exception):
    """A table or a file that can't be read."""


def session() -> duckdb.DuckDBPyConnection:
    """Return the auditor's own DuckDB, with the extension that reads Delta tables."""
    if not _session:
        folder = Path(duckdb_extension_delta.__file__).parent / "extensions"
        opened = duckdb.connect(config={"threads": "1"})
        opened.load_extension(str(next(folder.glob("*/delta.duckdb_extension"))))
        opened.execute("set TimeZone = 'UTC'")
        _session.append(opened)
    return _session[0]


ENGINES: dict[str, Callable[[str], pa.Table]] = {
    "deltalake": lambda folder: DeltaTable(folder).to_pyarrow_table(),
    "DuckDB": lambda folder: session().execute(f"from delta_scan('{folder}')").to_arrow_table(),
}
"""Who reads the newest version of a table, by its folder."""


def add_spark(remote: str) -> None:
    """Let a server of Spark Connect, on this machine, read each table too."""
    from pyspark.sql import SparkSession  # noqa: PLC0415 - takes a second, and few want it

    builder = SparkSession.builder.remote(remote)
    spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    ENGINES["Spark"] = lambda folder: spark.read.format("delta").load(folder).toArrow()


@dataclass
class Version:
    """One version of a table: its files, its marks, and what its commit says."""

    number: int
    files: dict[str, dict[str, Any]]
    added: list[str]
    removed: list[str]
    marks: dict[str, int]
    told: dict[str, Any]

    @property
    def is_upkeep(self) -> bool:
        return self.told.get("operation") in ("OPTIMIZE", "RESTORE", "VACUUM START", "VACUUM END")


class Table:
    """A table's versions and rows, read from its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"{folder.parent.name}.{folder.name}"
        self.versions = list(self._versions())
        self.rows = self._rows()

    def _versions(self) -> Iterator[Version]:
        files: dict[str, dict[str, Any]] = {}
        marks: dict[str, int] = {}
        entries = sorted(path for path in (self.folder / "_delta_log").glob("*.json"))
        for number, entry in enumerate(path for path in entries if path.stem.isdigit()):
            if int(entry.stem) != number or entry.stat().st_size == 0:
                message = f"{self.name}: version {number} is missing or hollow"
                raise UnreadableError(message)
            added, removed, told = [], [], {}
            for action in map(json.loads, entry.read_text().splitlines()):
                ((kind, content),) = action.items()
                if kind == "add":
                    added.append(unquote(content["path"]))
                    files = {**files, added[-1]: content}
                elif kind == "remove":
                    removed.append(unquote(content["path"]))
                elif kind == "txn":
                    marks = {**marks, content["appId"]: content["version"]}
                elif kind == "commitInfo":
                    told = content
            files = {path: add for path, add in files.items() if path not in {*removed} - {*added}}
            yield Version(number, files, added, removed, marks, told)

    def _rows(self) -> dict[str, list[Row]]:
        paths = {path for version in self.versions for path in version.files}
        needed = set(self.versions[-1].files) if self.versions else set()
        there = {path for path in paths if (self.folder / path).exists()}
        if needed - there:
            message = f"{self.name}: {len(needed - there)} files of the newest version are gone"
            raise UnreadableError(message)
        if not there:
            return {}
        rows: dict[str, list[Row]] = {path: [] for path in there}
        layouts: dict[tuple[str, ...], list[str]] = {}
        for path in sorted(there):
            layout = tuple(part.partition("=")[0] for part in path.split("/")[:-1])
            layouts.setdefault(layout, []).append(str(self.folder / path))
        for listed in layouts.values():
            for row in self._read(listed):
                rows[row.pop("filename")[len(str(self.folder)) + 1 :]].append(row)
        return rows

    def _read(self, listed: list[str]) -> list[Row]:
        try:
            found = session().execute(
                "select * from read_parquet(?, filename = true, union_by_name = true, "
                "hive_partitioning = true, hive_types_autocast = false)",
                [listed],
            )
            return found.to_arrow_table().to_pylist()
        except duckdb.Error as error:
            message = f"{self.name}: {str(error).splitlines()[0]}"
            raise UnreadableError(message) from None

    def at(self, version: Version) -> list[Row] | None:
        """Return a version's rows; None: a vacuum has removed files of it."""
        if not self.rows.keys() >= version.files.keys():
            return None
        return [row for path in version.files for row in self.rows[path]]

    def keys_at(self, version: Version) -> set[tuple[Any, ...]] | None:
        """Return the keys of a version's rows; None as `at`."""
        rows, key = self.at(version), KEYS.get(self.name.lower(), ())
        return None if rows is None else {tuple(row[name] for name in key) for row in rows}

    @property
    def newest(self) -> list[Row]:
        return self.at(self.versions[-1]) or [] if self.versions else []


def audit(world: World, *, has_engines: bool = True) -> list[str]:
    """Return what is wrong, in words; nothing if all is right.

    Args:
        world: What was played.
        has_engines: Whether others read each table too, which takes longer than all the rest.
    """
    try:
        return list(_wrong(world, has_engines=has_engines))
    except UnreadableError as error:
        return [f"unreadable: {error}"]


def _wrong(world: World, *, has_engines: bool) -> Iterator[str]:
    folders = sorted(log.parent for log in world.lake.glob("*/*/_delta_log"))
    names = Counter(f"{folder.parent.name}.{folder.name}".lower() for folder in folders)
    yield from (f"two folders: {count} of {name}" for name, count in names.items() if count > 1)
    tables = {table.name.lower(): table for table in map(Table, folders) if table.versions}
    for table in tables.values():
        yield from _each_version(table)
        yield from _statistics(table)
        yield from _never_back(table)
        yield from _written_once(world, table)
        yield from _counts(table)
        yield from _engines(table) if has_engines else ()
    yield from _passed(world, tables)
    yield from _stopped(world, tables)
    yield from _newest_files(world)
    yield from _layers(world, tables)
    yield from _ledger(world, tables)
    yield from _letters(tables)


def _layers(world: World, tables: dict[str, Table]) -> Iterator[str]:
    """Look at each table with what knows its rows."""
    if GENERATIONS in tables:
        yield from _from_the_source(world, tables[GENERATIONS], tables)
        yield from _watermark(world, tables[GENERATIONS])
        yield from _put_back(tables[GENERATIONS])
        yield from _compared(world, tables[GENERATIONS], _refused_keys(tables))
    if LOGS in tables:
        yield from _lines(world, tables[LOGS], tables)
    for child, parent in ((LATEST, GENERATIONS), (HOURLY, LATEST)):
        if child in tables and parent in tables:
            yield from _model(child, tables[child], tables[parent])
    if DEV in tables:
        yield from _developer(world, tables[DEV])


def _newest_files(world: World) -> Iterator[str]:
    for event in world.noted("published"):
        if event.facts["publication"].token < event.facts["wanted"]:
            yield f"an older attempt's files: {event.facts['table']}"


# -- each version -------------------------------------------------------------------------------


def _each_version(table: Table) -> Iterator[str]:
    key, time = KEYS.get(table.name.lower()), TIMES.get(table.name)
    for version in table.versions:
        rows = table.at(version)
        if rows is None:
            yield f"vacuumed too early: {table.name}, version {version.number}"
        if rows is None or key is None:
            continue
        where = f"{table.name}, version {version.number}"
        if {*version.added} & {*version.removed}:
            yield f"a file added and removed at once: {where}"
        found = Counter(tuple(row[name] for name in key) for row in rows)
        twice = [name for name, count in found.items() if count > 1]
        if twice:
            yield f"a row twice: {where}: {len(twice)}, as {twice[0]}"
        if time:
            other = [row for row in rows if row["_window_hour"] != f"{row[time]:%Y%m%dT%H}"]
            if other:
                yield f"a row in another hour: {where}: {len(other)}"


def _statistics(table: Table) -> Iterator[str]:
    for version in table.versions:
        for path in set(version.added) & table.rows.keys():
            told = json.loads(version.files[path]["stats"] or "{}", parse_float=Decimal)
            for what in _untrue(told, table.rows[path]):
                yield f"statistics: {table.name}, version {version.number}: {what}"


def _untrue(told: dict[str, Any], rows: list[Row]) -> Iterator[str]:
    if told.get("numRecords") != len(rows):
        yield f"{told.get('numRecords')} rows told, {len(rows)} in the file"
    for name, nulls in told.get("nullCount", {}).items():
        if isinstance(nulls, int) and nulls != sum(row[name] is None for row in rows):
            yield f"{nulls} nulls of {name} told"
    for bound, is_within in (("minValues", _at_least), ("maxValues", _at_most)):
        for name, limit in told.get(bound, {}).items():
            values = [row[name] for row in rows if row[name] is not None]
            if not all(is_within(value, limit) for value in values):
                yield f"{bound} of {name}: {limit}"


def _at_least(value: Any, limit: Any) -> bool:
    return value >= _moment(value, limit)


def _at_most(value: Any, limit: Any) -> bool:
    limit = _moment(value, limit)
    # Delta-rs cuts a time to milliseconds; readers know it.
    return value <= (limit + timedelta(milliseconds=1) if isinstance(value, datetime) else limit)


def _moment(value: Any, limit: Any) -> Any:
    if isinstance(value, datetime):
        return datetime.fromisoformat(limit)
    return type(value)(limit)


def _never_back(table: Table) -> Iterator[str]:
    """Bronze loses no row, an event's hour no line, a model's row gives way to newer ones alone."""
    before: set[Any] = set()
    ages: dict[str, datetime] = {}
    for version in table.versions:
        rows = table.at(version)
        where = f"{table.name}, version {version.number}"
        if rows is None or version.told.get("operation") == "RESTORE":
            before, ages = set(), {}
            continue
        if table.name in (GENERATIONS, LOGS):
            now = table.keys_at(version) or set()
            if before - now:
                yield f"rows lost: {where}: {len(before - now)}, as {min(before - now)}"
            before = now
        if table.name == LATEST and not _follows_a_restore(version):
            now_ages = {row["generation_id"]: row["updated_at"] for row in rows}
            older = [name for name, at in ages.items() if now_ages.get(name, at - _HOUR) < at]
            if older:
                yield f"an older row: {where}: {len(older)}, as {older[0]}"
            ages = now_ages


def _written_once(world: World, table: Table) -> Iterator[str]:
    """Nobody has put another entry in the place of one that was there."""
    for number, (_, _, inode) in world.versions.get(str(table.folder), {}).items():
        entry = table.folder / "_delta_log" / f"{number:020d}.json"
        if not entry.exists() or entry.stat().st_ino != inode:
            yield f"history rewritten: {table.name}, version {number}"


def _follows_a_restore(version: Version) -> bool:
    return version.told.get("touched_hours") == "*"


def _counts(table: Table) -> Iterator[str]:
    """A commit's own counts balance, and tell the rows that it brought."""
    tokens: Counter[str] = Counter()
    held: set[Any] | None = set()
    for version in table.versions:
        told, before, held = version.told, held, table.keys_at(version)
        if "attempt_token" not in told:
            continue
        tokens[told["attempt_token"]] += 1
        read, published, refused, repeated = (int(told[word]) for word in _COUNTS)
        where = f"{table.name}, version {version.number}"
        if read != published + refused + repeated:
            yield f"counts: {where}: {read} is not {published} + {refused} + {repeated}"
        if before is not None and held is not None and len(held - before) != published:
            yield f"counts: {where}: {published} told, {len(held - before)} brought"
    twice = [token for token, count in tokens.items() if count > 1]
    if twice:
        yield f"two commits of one attempt: {table.name}: {len(twice)}"


def _engines(table: Table) -> Iterator[str]:
    """Other engines read the newest version as we do, values and not only counts."""
    if not table.versions[-1].files:
        return
    ours = _texts(table.newest)
    for engine, read in ENGINES.items():
        try:
            found = _texts(read(str(table.folder)).to_pylist())
        except Exception as error:  # noqa: BLE001 - whatever it says, it can't read the table
            yield f"unreadable: {table.name} by {engine}: {type(error).__name__}"
            continue
        if found != ours:
            yield f"engines disagree: {table.name}: {engine} reads {sum(found.values())} rows"


def _texts(rows: Iterable[Row]) -> Counter[str]:
    return Counter(str(sorted((name, str(value)) for name, value in row.items())) for row in rows)


# -- gates, marks, counts -----------------------------------------------------------------------


def _passed(world: World, tables: dict[str, Table]) -> Iterator[str]:
    """What a gate refuses was never visible, unless a person had accepted these files."""
    for name, column in ((GENERATIONS, "user_id"), (LATEST, "user_id"), (HOURLY, "poisoned")):
        if name not in tables:
            continue
        table = tables[name]
        for version in table.versions:
            if version.is_upkeep or not all(path in table.rows for path in version.added):
                continue
            rows = [row for path in version.added for row in table.rows[path]]
            if any(row[column] in ("poison", *range(1, 99)) for row in rows) and (
                "accepted_by" not in version.told
            ):
                yield f"not passed: {name}, version {version.number}"
            accepted = {
                token
                for event in world.noted("accepted")
                if (event.facts["table"], event.facts["run"]) == (name, version.told.get("run_id"))
                for token in event.facts["tokens"]
            }
            token = int(version.told.get("attempt_token", 0))
            if "accepted_by" in version.told and token not in accepted:
                yield f"not passed: {name}, version {version.number}: other files were accepted"
            if name == GENERATIONS and any(row["status"] == "unknown" for row in rows):
                yield f"not passed: {name}, version {version.number}: a bad row"


def _stopped(world: World, tables: dict[str, Table]) -> Iterator[str]:
    """While publishing is stopped, no gate commits that did not look before the stop."""
    switches = world.noted("switch")
    for off in (switch for switch in switches if switch.facts["is_stopped"]):
        ends = (s.step for s in switches if s.step > off.step and not s.facts["is_stopped"])
        end = min(ends, default=10**9)
        for name, table in tables.items():
            for version in table.versions:
                step, actor, _ = world.versions.get(str(table.folder), {}).get(
                    version.number, (0, None, 0)
                )
                is_gates = actor is not None and "/gate " in actor.name
                if not (is_gates and off.step < step < end) or version.is_upkeep:
                    continue
                looked = actor.seen.get("/_controls/publishing.json")
                if (
                    name in (GENERATIONS, LOGS, LATEST, HOURLY)
                    and version.added
                    and (looked is None or looked > off.step)
                ):
                    yield f"published while stopped: {name}, version {version.number}"


def _publications(world: World, table: str) -> Iterator[tuple[Event, Event]]:
    """Yield each reading of a source whose rows a gate let through, with its publication."""
    restored = max(
        (e.step for e in world.noted("restored") if e.facts["table"] == table), default=0
    )
    staged = {
        event.facts["token"]: event
        for event in world.noted("staged")
        if event.facts["table"] == table
    }
    for event in world.noted("published"):
        if event.facts["table"] == table and event.step >= restored:
            found = staged.get(event.facts["publication"].token)
            if found is not None and found.step > restored:
                yield found, event


def _from_the_source(world: World, table: Table, tables: dict[str, Table]) -> Iterator[str]:
    """Each row that a run read stands there once, as it was; nothing else does."""
    known = {(fact.key, fact.number, fact.updated_at) for fact in world.application.facts}
    places = ("generation_id", "prompt_tokens", "updated_at")
    there = {tuple(row[name] for name in places) for row in table.newest if not row["_is_deleted"]}
    if there - known:
        yield f"a row of nowhere: {len(there - known)}, as {min(there - known)[0]}"
    deleted = {row["generation_id"] for row in table.newest if row["_is_deleted"]}
    if untrue := deleted & world.application.current.keys():
        yield f"deleted, though in the source: {len(untrue)}, as {min(untrue)}"
    there = {tuple(row[name] for name in places) for row in table.newest}
    refused = _refused_keys(tables)
    reads = {event.facts["token"]: event for event in world.noted("read")}
    for staged, _ in _publications(world, GENERATIONS):
        read, run = reads.get(staged.facts["token"]), staged.facts["run"]
        if read is None or "reconcile" in run.run_id:
            continue
        upper = min(read.facts["safe"], run.window.end)
        for fact in world.application.facts:
            is_live = fact.since <= read.step < fact.until
            is_due = is_live and run.window.start <= fact.updated_at < upper
            place = (fact.key, fact.number, fact.updated_at)
            if is_due and place not in there and fact.key not in refused:
                yield f"a row is missing: {fact.key}, read by {run.run_id}"


def _compared(world: World, table: Table, refused: set[str]) -> Iterator[str]:
    """A daily comparison has brought each key that the lake lacked, from its first hour on."""
    made = world.versions.get(str(table.folder), {})
    keys = {row["generation_id"] for row in table.newest} | refused
    reads = {event.facts["token"]: event for event in world.noted("read")}
    for staged, _ in _publications(world, GENERATIONS):
        read = reads.get(staged.facts["token"])
        if read is None or not staged.facts.get("is_late"):
            continue
        known = [
            row["updated_at"]
            for version in table.versions
            if made.get(version.number, (read.step,))[0] < staged.facts["began"]
            for row in table.at(version) or ()
        ]
        for fact in world.application.facts if known else ():
            is_due = fact.updated_at >= min(known) and fact.since <= read.step < fact.until
            if is_due and fact.key not in keys:
                yield f"a row is missing: {fact.key}, compared by {staged.facts['run'].run_id}"


def _refused_keys(tables: dict[str, Table]) -> set[str]:
    letters = tables["ops.dead_letters"].newest if "ops.dead_letters" in tables else []
    return {
        json.loads(row["coordinates"]).get("generation_id")
        for row in letters
        if row["event"] == "refused"
    }


def _watermark(world: World, table: Table) -> Iterator[str]:
    """The mark moves with the rows that it tells of, and back by a restore alone."""
    reads = {str(event.facts["token"]): event for event in world.noted("read")}
    before = 0
    for version in table.versions:
        mark, told = version.marks.get("watermark", 0), version.told
        if mark != before and told.get("operation") != "RESTORE":
            where = f"{table.name}, version {version.number}"
            if mark < before:
                yield f"the watermark went back: {where}"
            if not told.get("run_id", "").startswith("scheduled"):
                yield f"the watermark lies: {where}: moved by {told.get('run_id')}"
            elif told.get("attempt_token") in reads:
                read = reads[told["attempt_token"]]
                for lie in _told_of(world, table, version, read, mark):
                    yield f"the watermark lies: {where}: {lie}"
        before = mark
    yield from _held_back(world, table)


def _put_back(table: Table) -> Iterator[str]:
    """A restore puts the watermark back with the rows."""
    for version in table.versions:
        if "restored_to" in version.told:
            then = table.versions[int(version.told["restored_to"])]
            if version.marks.get("watermark", 0) != then.marks.get("watermark", 0):
                yield f"the watermark lies: {table.name}, version {version.number}: a restore"


def _told_of(world: World, table: Table, version: Version, read: Event, mark: int) -> Iterator[str]:
    """Yield what a mark tells of and its version does not hold, of the hour that was read."""
    if mark > read.facts["safe"].timestamp() * 1_000_000 + 1:
        yield "beyond the safe bound"
    start = datetime.fromisoformat(version.told["window"].split("/")[0])
    there = {(row["generation_id"], row["prompt_tokens"]) for row in table.at(version) or ()}
    for fact in world.application.facts:
        is_told = start.timestamp() <= fact.updated_at.timestamp() < mark / 1_000_000
        is_read = fact.since <= read.step < fact.until and fact.status != "unknown"
        if is_told and is_read and (fact.key, fact.number) not in there:
            yield f"{fact.key} is not there"


def _held_back(world: World, table: Table) -> Iterator[str]:
    """What an open transaction held back comes with the schedule's next run."""
    there = {(row["generation_id"], row["prompt_tokens"]) for row in table.newest}
    reads = {event.facts["token"]: event for event in world.noted("read")}
    found = [
        (reads[staged.facts["token"]], staged.facts["run"], done)
        for staged, done in _publications(world, GENERATIONS)
        if staged.facts["token"] in reads and staged.facts["run"].moves_watermark
    ]
    for first, run, done in found:
        for later, next_run, _ in found:
            if later.step <= done.step or next_run.window.start < run.window.end:
                continue
            for fact in world.application.facts:
                is_due = (
                    run.window.start
                    <= fact.updated_at
                    < min(later.facts["safe"], next_run.window.end)
                )
                is_live = first.step < fact.since <= later.step < fact.until
                if (
                    is_due
                    and is_live
                    and (fact.key, fact.number) not in there
                    and (fact.status != "unknown")
                ):
                    yield f"a row is missing: {fact.key}, held back before {next_run.run_id}"


def _lines(world: World, table: Table, tables: dict[str, Table]) -> Iterator[str]:
    there = {(row["_file"], row["_offset"]) for row in table.newest}
    known = {(line.file, line.offset) for line in world.application.lines}
    if there - known:
        yield f"a row of nowhere: {len(there - known)} lines"
    letters = tables["ops.dead_letters"].newest if "ops.dead_letters" in tables else []
    for staged, _ in _publications(world, LOGS):
        window = staged.facts["run"].window
        for line in world.application.lines:
            place = (line.file, line.offset)
            is_read = line.written <= staged.facts["step"]
            if not is_read or not window.start - _HOUR <= line.timestamp < window.end:
                continue
            if line.is_near and place not in there:
                yield f"a line is missing: {line.file}, read by {staged.facts['run'].run_id}"
    settled = {
        (json.loads(row["coordinates"]).get("file"), json.loads(row["coordinates"]).get("offset"))
        for row in letters
        if row["event"] == "published"
    }
    restored = any(event.facts["table"] == LOGS for event in world.noted("restored"))
    if settled - there and not restored:
        yield f"a replayed line is missing: {len(settled - there)}"


def _model(name: str, table: Table, parent: Table) -> Iterator[str]:
    """Each hour of each version is what its parent had, at the version read or a later one."""
    expected: dict[tuple[int, str], Any] = {}
    made = {version.number: version for version in parent.versions}
    build = _latest_of if name == LATEST else _hourly_of
    contents = {}
    for number, version in made.items():
        rows = parent.at(version)
        contents[number] = build(rows) if rows is not None else None
    del expected
    is_restored = any(version.told.get("operation") == "RESTORE" for version in parent.versions)
    for version in table.versions:
        marks = [
            mark
            for app, mark in version.marks.items()
            if app.startswith(f"consumed:{parent.name}#")
        ]
        rows = table.at(version)
        if not marks or rows is None or is_restored:
            continue
        have = _by_hour(name, rows)
        later = [content for number, content in contents.items() if number >= marks[0]]
        if None in later:
            continue
        for hour in {*have, *(hour for content in later for hour in content)}:
            if have.get(hour) not in [content.get(hour) for content in later]:
                yield f"a mark lies: {name}, version {version.number}, hour {hour}"


def _latest_of(rows: list[Row]) -> dict[str, Any]:
    newest: dict[str, Row] = {}
    for row in rows:
        held = newest.get(row["generation_id"])
        order = (row["updated_at"], row["_row_hash"])
        if held is None or order > (held["updated_at"], held["_row_hash"]):
            newest[row["generation_id"]] = row
    hours: dict[str, set[Any]] = {}
    for row in newest.values():
        hour = f"{row['created_at']:%Y%m%dT%H}"
        hours.setdefault(hour, set()).add((row["generation_id"], row["_row_hash"]))
    return hours


def _hourly_of(rows: list[Row]) -> dict[str, Any]:
    hours: dict[str, tuple[int, Any]] = {}
    for row in rows:
        if not row["_is_deleted"]:
            count, cost = hours.get(row["_window_hour"], (0, 0))
            hours[row["_window_hour"]] = (count + 1, cost + row["cost_usd"])
    return hours


def _by_hour(name: str, rows: list[Row]) -> dict[str, Any]:
    if name == HOURLY:
        return {row["_window_hour"]: (row["generations"], row["cost_usd"]) for row in rows}
    hours: dict[str, set[Any]] = {}
    for row in rows:
        found = (row["generation_id"], row["_row_hash"])
        hours.setdefault(row["_window_hour"], set()).add(found)
    return hours


def _ledger(world: World, tables: dict[str, Table]) -> Iterator[str]:
    """Each line and gate's record tells of one commit, or none; a closed run's have lines."""
    ledger = tables["ops.window_ledger"].newest if "ops.window_ledger" in tables else []
    made = {
        (name, version.told["attempt_token"]): version
        for name in (GENERATIONS, LOGS)
        for version in (tables[name].versions if name in tables else ())
        if "attempt_token" in version.told
    }
    for row in ledger:
        yield from _ledger_line(row, made.get(_attempt(row)))
    told = {(*_attempt(row), row["run_id"]) for row in ledger}
    for event in world.noted("published"):
        if event.facts["table"] in (GENERATIONS, LOGS):
            row = {**asdict(event.facts["publication"]), "run_id": event.facts["run"].run_id}
            row |= {"table_name": row["table"], "table_version": row["version"]}
            yield from _ledger_line(row, made.get((row["table"], str(row["token"]))))
    closed = {event.facts["run"].run_id: event.step for event in world.noted("closed")}
    for (name, token), version in made.items():
        step, *_ = world.versions[str(tables[name].folder)].get(version.number, (10**9,))
        run_id = version.told["run_id"]
        if step <= closed.get(run_id, -1) and (name, token, run_id) not in told:
            yield f"not in the ledger: {name}, version {version.number}"


def _attempt(row: Row) -> tuple[str, str]:
    return row["table_name"], str(row["attempt_token"])


def _ledger_line(row: Row, made: Version | None) -> Iterator[str]:
    read, published, refused, held = (row[word] for word in _COUNTS)
    if read != published + refused + held:
        yield f"counts: the record of {row['table_name']}"
    if made is not None:
        wanted = (made.number, made.told["run_id"], *(int(made.told[word]) for word in _COUNTS))
        if wanted != (row["table_version"], row["run_id"], read, published, refused, held):
            yield f"counts: the record differs from {row['table_name']}, version {made.number}"


def _letters(tables: dict[str, Table]) -> Iterator[str]:
    letters = tables["ops.dead_letters"].newest if "ops.dead_letters" in tables else []
    refused = {row["letter_id"] for row in letters if row["event"] == "refused"}
    if any(row["letter_id"] not in refused for row in letters):
        yield "letters: an event of a letter that nobody refused"


def _developer(world: World, table: Table) -> Iterator[str]:
    for version in table.versions:
        rows = table.at(version)
        if rows is not None and not {row["id"] for row in rows} >= set(range(1, 7)):
            yield f"rows lost: {table.name}, version {version.number}: {len(rows)} left"
        if any(row["value"] is None for row in rows or ()):
            yield f"a value lost: {table.name}, version {version.number}"
    newest = {row["id"] for row in table.newest}
    merged = {event.facts["key"] for event in world.noted("merged")}
    if merged - newest and len(merged) == 1:
        yield f"rows lost: {table.name}: {len(merged - newest)} merged ones"
