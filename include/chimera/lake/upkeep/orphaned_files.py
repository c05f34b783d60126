"""Find, count and remove old files that nothing refers to.

A table's ordinary vacuum removes files that its log once named. It keeps those that no log ever
named: Parquet files staged for a gate that refused them, files of killed writers, and the folders
of old runs.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from include.chimera.lake.delta.scans import pinned_versions
from include.chimera.lake.delta.tables import NO_TABLE, leaving_out, open_table, table_names, vacuum
from include.chimera.lake.store import storage
from include.chimera.lake.store.places import folder_of
from include.chimera.relation import Relation
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# delta-rs writes `<file>#<number>` first and renames it; a killed writer leaves it, and no vacuum
# removes it. A kill right after a first commit leaves the mark that there is no table.
_HALF_WRITTEN = re.compile(rf"\.(parquet|json)#\d+$|/{NO_TABLE}(#\d+)?$")


@dataclass(frozen=True)
class Removal:
    """One kind of thing that was removed, or would be on a dry run.

    Args:
        kind: `unreferenced_files`, `half_written_files`, `run_folders` or `letter_payloads`.
        name: The table; `_runs` for run folders.
        count: How many were removed.
        size_bytes: Their total size in bytes.
    """

    kind: str
    name: str
    count: int
    size_bytes: int

    def __str__(self) -> str:
        """Describe it in one line."""
        words = self.kind.replace("_", " ")
        return f"{self.count:,} {words} of {self.name}, {self.size_bytes:,} bytes"


def remove_leftovers(*, dry_run: bool) -> Iterator[Removal]:
    """Remove files that nothing refers to and that are older than the setting `vacuum_hours`.

    No younger table version loses a file, nor one that readers are pinned to, and no staged file
    that may still wait for its gate is removed.

    Args:
        dry_run: Only report.
    """
    oldest = datetime.now(UTC) - timedelta(hours=get_settings().vacuum_hours)
    pinned = pinned_versions()
    for name in table_names():
        with leaving_out(name):
            kept = pinned.get(Relation.parse(name))
            yield from _table_leftovers(name, oldest, kept, dry_run=dry_run)
    yield from _old_runs(oldest, dry_run=dry_run)


def _table_leftovers(
    name: str, oldest: datetime, pinned: int | None, *, dry_run: bool
) -> Iterator[Removal]:
    table = open_table(name)
    if table is None:
        return
    found = storage.walk(folder_of(name))
    half = [file for file in found if _HALF_WRITTEN.search(file.place) and file.changed_at < oldest]
    if half:
        yield _removal("half_written_files", name, half)
        if not dry_run:
            storage.delete_files(file.place for file in half)
    names = set(vacuum(table, pinned, dry_run=True, is_full=True))
    unreferenced = [file for file in found if file.place[len(folder_of(name)) + 1 :] in names]
    if unreferenced:
        yield _removal("unreferenced_files", name, unreferenced)
        if not dry_run:
            vacuum(table, pinned, dry_run=False, is_full=True)


def _old_runs(oldest: datetime, *, dry_run: bool) -> Iterator[Removal]:
    """Remove the folders of runs in which nothing was written since `oldest` (UTC)."""
    root = f"{get_settings().lake}/_runs"
    runs: dict[str, list[storage.StoredFile]] = defaultdict(list)
    for file in storage.walk(root):
        runs[file.place[len(root) + 1 :].partition("/")[0]].append(file)
    old = {
        run: files for run, files in runs.items() if all(file.changed_at < oldest for file in files)
    }
    if old:
        size = sum(file.size_bytes for files in old.values() for file in files)
        yield Removal("run_folders", "_runs", len(old), size)
        if not dry_run:
            for run in old:
                storage.delete_folder(f"{root}/{run}")


def _removal(kind: str, name: str, files: Iterable[storage.StoredFile]) -> Removal:
    sizes = [file.size_bytes for file in files]
    return Removal(kind, name, len(sizes), sum(sizes))
