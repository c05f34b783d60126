"""Bugs that are planted into the product, to see whether the simulation finds them.

Each is a change of a few characters in one file. It is planted into a process by compiling the
changed source and giving the functions that differ their new code; nothing on the disk changes.
"""

# ruff: noqa: E501 - the lines of a source are as long as they are

from __future__ import annotations

import importlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = "include.chimera"


@dataclass(frozen=True)
class Bug:
    """A change of a module's source: in `module`, `old` becomes `new`; who meets there: `theme`."""

    theme: str
    name: str
    module: str
    old: str
    new: str


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """Give this process's product a bug for a while.

    Raises:
        LookupError: The source has changed, so that the bug can't be planted as it is written.
    """
    module = importlib.import_module(f"{_PACKAGE}.{bug.module}")
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    if source.count(bug.old) != 1:
        message = f"{bug.name}: {source.count(bug.old)} places in {bug.module}"
        raise LookupError(message)
    whole = compile(source.replace(bug.old, bug.new), str(module.__file__), "exec",
                    dont_inherit=True)  # fmt: skip
    codes = dict(_codes(whole))
    before = {
        function: function.__code__
        for name, function in _functions(module)
        if name in codes and not _is_same(function.__code__, codes[name])
    }
    if not before:
        message = f"{bug.name}: no function of {bug.module} has changed"
        raise LookupError(message)
    for function in before:
        function.__code__ = codes[function.__qualname__]
    try:
        yield
    finally:
        for function, code in before.items():
            function.__code__ = code


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    """Yield each function's code of a module, by its qualified name."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant.co_qualname, constant
            yield from _codes(constant)


def _functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    for holder in (module, *(kind for kind in vars(module).values() if isinstance(kind, type))):
        for value in list(vars(holder).values()):
            function = _plain(value)
            if function is not None and function.__module__ == module.__name__:
                yield function.__qualname__, function


def _plain(value: Any) -> FunctionType | None:
    for attribute in ("__func__", "fget", "func", "__wrapped__"):
        value = getattr(value, attribute, value)
    return value if isinstance(value, FunctionType) else None


def _is_same(one: CodeType, two: CodeType) -> bool:
    return (
        one.co_code == two.co_code
        and _plain_constants(one) == _plain_constants(two)
        and (one.co_names == two.co_names and one.co_freevars == two.co_freevars)
    )


def _plain_constants(code: CodeType) -> list[Any]:
    return [
        [*_plain_constants(constant), constant.co_code]
        if isinstance(constant, CodeType)
        else constant
        for constant in code.co_consts
    ]


_PUBLISHER, _COMMITS, _LINEAGE = (
    "lake.publish.bronze_publisher", "lake.delta.commits", "lake.delta.lineage"
)  # fmt: skip
_BUILDS, _TOKENS, _STORAGE = (
    "lake.publish.model_builds", "lake.staged.fencing_tokens", "lake.store.storage"
)  # fmt: skip
_POSTGRES = "sources.postgres.extract"

BUGS = (
    # fences and tokens
    Bug("lines", "a fence that is not looked at", _PUBLISHER, " if fence_of(table, hour) <= token]", "]"),
    Bug("lines", "a fence compared the other way", _PUBLISHER,
        "if fence_of(table, hour) <= token]", "if fence_of(table, hour) >= token]"),
    Bug("lines", "a fence that is not set", _PUBLISHER,
        "fences={fence_mark(hour): self.batch.token for hour in fenced}", "fences={}"),
    Bug("lines", "a token by the clock alone", _TOKENS,
        "*(token + 1 for token in held), 0)", "0)"),
    Bug("lines", "a token that others may have too", _TOKENS,
        "        held += map(int, taken)\n", ""),
    Bug("lines", "a token that two attempts can take", _TOKENS,
        "        while not storage.create_text(f\"{folder}/{token:020d}\", \"\"):\n            token += 1\n", ""),
    Bug("lines", "the oldest attempt's files", "lake.staged.manifests",
        "max(attempts, default=record_place", "min(attempts, default=record_place"),
    # commits
    Bug("rows", "two appends that both succeed", _COMMITS,
        "marks = {**change.marks, _WRITER: version}", "marks = {**change.marks}"),
    Bug("rows", "a decision that is not made anew", _COMMITS,
        "            change = decide(table)\n",
        "            change = tried[-1] if tried else decide(table)\n"),
    Bug("rows", "a commit before its files are synced", _COMMITS,
        "    sync_files(folder, [file.path for file in change.files])\n", ""),
    Bug("rows", "a success before its log entry is synced", _COMMITS,
        "    sync_log(table.table_uri, base, table.version())\n", ""),
    Bug("developers", "a table replaced in two commits", _COMMITS,
        "    draft = DeltaTable(place) if table is None else copy_log(table, folder, place)\n"
        "    _prepare(draft, change, is_new=table is None)\n",
        "    if table is not None:\n"
        "        _prepare(DeltaTable(folder), change, is_new=False)\n"
        "        return _write(DeltaTable(folder), change, version)\n"
        "    draft = DeltaTable(place)\n"
        "    _prepare(draft, change, is_new=table is None)\n"),
    Bug("watermark", "marks in a commit before their data", _COMMITS,
        "        _write(table, change, table.version() + 1)\n",
        "        if change.marks and change.files:\n"
        "            _write(table, Change(marks=change.marks, metadata=run_metadata(None) | "
        "{'touched_hours': '[]', 'arrived_partitions': '[]'}), table.version() + 1)\n"
        "            table = DeltaTable(folder)\n"
        "        _write(table, change, table.version() + 1)\n"),
    Bug("developers", "a put that replaces what is there", _STORAGE,
        "        os.link(written, target)\n",
        "        written.replace(target)\n        written.touch()\n"),
    Bug("developers", "a merged draft without its removals", "lake.delta.draft_commits",
        "return [*words.values(), *removes.values(), *adds.values()]",
        "return [*words.values(), *adds.values()]"),
    Bug("compactions", "a compaction of what was there before", "lake.upkeep.optimization",
        "            metrics = table.optimize.compact(",
        "            if crowded:\n"
        "                import deltalake\n"
        "                chosen = among(column, crowded)\n"
        "                with connect() as connection:\n"
        "                    old = connection.execute(\n"
        "                        f'from ({scan(table, name)}) where {chosen}'\n"
        "                    ).to_arrow_table()\n"
        "                deltalake.write_deltalake(\n"
        "                    table.table_uri, old, mode='overwrite', predicate=chosen)\n"
        "                return\n"
        "            metrics = table.optimize.compact("),
    # bronze
    Bug("rows", "bad rows adopted with the files", "lake.publish.incoming_batch",
        "        if self.count != sum(file.rows for file in staged):\n            return []\n", ""),
    Bug("rows", "versions told apart by the key alone", _PUBLISHER,
        "for column in (*self.contract.key, ROW_HASH))\n        hours",
        "for column in self.contract.key)\n        hours"),
    Bug("rows", "rows appended without a look at what is there", _PUBLISHER,
        "new = f\"from ({good}) anti join ({known}) using ({key})\"", "new = f\"from ({good})\""),
    Bug("rows", "every hour's files copied", _PUBLISHER,
        "{*hours}.difference(held, repeated)", "{*hours}.difference(repeated)"),
    Bug("rows", "counts that are one too many", _PUBLISHER,
        "published = written if published is None", "published = written + 1 if published is None"),
    # marks
    Bug("watermark", "a watermark beyond the safe bound", _POSTGRES,
        "        upper = min(source.safe_bound, run.window.end)\n", "        upper = run.window.end\n"),
    Bug("watermark", "a backfill that moves the watermark", _PUBLISHER,
        "if mark is None or not self.run.moves_watermark:", "if mark is None:"),
    Bug("watermark", "a watermark that goes back", _PUBLISHER,
        "if current is None or mark > current else {}", "if True else {}"),
    Bug("watermark", "reading from the window's start alone", _POSTGRES,
        "    return min(datetime.fromtimestamp(mark / 1_000_000, UTC) - overlap, run.window.start)",
        "    return run.window.start"),
    Bug("models", "a parent's version that was not read", _LINEAGE,
        "identity_of(name, found): found.version() for", "identity_of(name, found): found.version() + 1 for"),
    Bug("models", "hours touched without the parents' commits", _LINEAGE,
        "        touched = _union(touched, change.touched)\n", ""),
    Bug("models", "one commit too few of a parent", _LINEAGE,
        "    wanted = table.version() - version\n", "    wanted = table.version() - version - 1\n"),
    Bug("models", "a parent's newest commits for its oldest", _LINEAGE,
        "found[::-1][:wanted] if", "found[:wanted] if"),
    # models
    Bug("models", "a stale build over a newer one", _BUILDS,
        "if value not in others)", "if True)"),
    Bug("models", "marks of hours that were left out", _BUILDS, "        marks = {}\n    wanted", "    wanted"),
    Bug("models", "a first build over another one's", _BUILDS,
        "if is_whole and (others == frozenset() or not _is_stale(table, base, build)):", "if is_whole:"),
    # gates and people
    Bug("people", "a gate that publishes what it refused", "quality.gate",
        "        if not verdict.success:\n            raise self._refusal(verdict)\n", ""),
    Bug("switch", "a gate that does not look at the stop switch", "quality.gate",
        '        require_publishing(f"gate of {self.table}, run {self.run.run_id}")\n', ""),
    Bug("switch", "the oldest decision in force", "lake.publish.stop_switch",
        "next(reversed(read_decisions()), None)", "next(iter(read_decisions()), None)"),
    Bug("people", "an acceptance of any files", "quality.acceptance",
        "return found if found.stage == _stage_digest(run, table) else None", "return found"),
    Bug("people", "an acceptance that nobody can find", "quality.gate",
        "notes = acceptance.metadata() if acceptance else {}", "notes = {}"),
    Bug("models", "a restore that keeps the marks", "lake.upkeep.restore",
        "[Transaction(*mark) for mark in marks.items()]", "[]"),
    # the rest
    Bug("rows", "statistics off by one row", "lake.delta.parquet_files",
        '{"numRecords": rows,', '{"numRecords": rows + 1,'),
    Bug("rows", "a bound that is too low", "lake.delta.parquet_files",
        "return int(low), int(high)", "return int(low), int(high) - 1"),
    Bug("developers", "a table looked up with its case", "lake.store.places",
        "and folded(decoded(entry.removesuffix(ending))) == folded(name)",
        "and decoded(entry.removesuffix(ending)) == name"),
    Bug("lines", "the ledger appended twice", "lake.ops_tables.appends",
        'new = f"from batch anti join ({known}) using ({key})"', 'new = "from batch"'),
    Bug("rows", "letters appended twice", "lake.dead_letters.letters",
        'new = f"from ({distinct}) anti join ({known}) using (letter_id, event, attempt)"',
        'new = f"from ({distinct})"'),
    Bug("replays", "a replay that keeps the hour's own reading out", _PUBLISHER,
        "fenced=() if is_addition else changed", "fenced=changed"),
    Bug("replays", "a replay that replaces the hour", "operations.replay",
        'is_addition=contract.kind == "events")', "is_addition=False)"),
    Bug("replays", "a letter settled before its row is there", "operations.replay",
        '    if good and not _publish(run, source):\n        good = []\n    fault_point("replay.published")\n'
        '    published = _record(connection, run, "published", dict.fromkeys(good, ""))\n',
        '    published = _record(connection, run, "published", dict.fromkeys(good, ""))\n'
        '    if good and not _publish(run, source):\n        good = []\n'),
    Bug("rows", "a vacuum of what is young", "lake.upkeep.optimization",
        "    vacuumed = vacuum(table, pinned, dry_run=True)\n",
        "    vacuumed = table.vacuum(0, dry_run=False, enforce_retention_duration=False)\n"),
    Bug("compactions", "a compaction that no fsync follows", "lake.upkeep.optimization",
        "    sync_files(new.table_uri, sorted(_paths(new) - _paths(old)))\n", ""),
    Bug("models", "a build without parents over one with them", _BUILDS,
        "return not read.keys() <= build.plan.consumed.keys() or any(", "return any("),
    Bug("rows", "a retry that reports nothing", _PUBLISHER,
        "found = committed_counts(table, name, self.batch.token)\n            version",
        "found = None\n            version"),
    Bug("rows", "the late rows of the first hour left out", "sources.postgres.late_rows",
        "for hour in hours]", "for hour in hours[1:]]"),
    Bug("rows", "nulls that no statistic tells", "lake.delta.parquet_files",
        'nulls[field.name] = int(found["null_count"])', "nulls[field.name] = 0"),
    Bug("developers", "columns told apart by their case", "lake.delta.columns",
        "there = {folded(column.name): column", "there = {column.name: column"),
    Bug("lines", "the folder before that is not read", "sources.api_logs.extract",
        "self.window.widened(2 * self.lookback, self.lookback)",
        "self.window.widened(self.lookback, self.lookback)"),
    Bug("lines", "rows counted as new that were there", _PUBLISHER,
        "again = among(PARTITION, [hour for hour in changed if hour in live])", "again = 'false'"),
    Bug("lines", "another run's commits in the ledger", "lake.publish.verification",
        'if TOKEN in entry and entry["run_id"] == run.run_id', "if TOKEN in entry"),
    Bug("lines", "version numbers of a moving log", "lake.publish.verification",
        "        table = newest\n", "        return found\n"),
)  # fmt: skip
