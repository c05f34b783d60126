"""The outcome of a commit: the counts of one batch or build, and the version that holds it."""

from __future__ import annotations

from dataclasses import dataclass

from include.chimera.lake.staged.records import Record


@dataclass(frozen=True)
class Publication(Record):
    """The counts of one batch or build, and the table's version after its commit.

    Published rows are new or changed. Duplicates are rows that the table held already, even if they
    were rewritten. None: the two can't be told apart.
    """

    file_name = "publication.json"

    table: str
    rows_read: int
    rows_published: int | None
    rows_refused: int
    rows_duplicate: int | None
    version: int
    token: int = 0

    def __str__(self) -> str:
        """Describe it in one line."""
        counts = {
            "read": self.rows_read,
            "published": self.rows_published,
            "refused": self.rows_refused,
            "duplicate": self.rows_duplicate,
        }
        said = (f"{'?' if n is None else f'{n:,}'} {word}" for word, n in counts.items())
        return f"rows {', '.join(said)}; version {self.version}"
