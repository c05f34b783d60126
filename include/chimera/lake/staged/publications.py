"""What a commit brought: the counts of one batch or build, and the version that holds it."""

from __future__ import annotations

from dataclasses import dataclass

from include.chimera.lake.staged.records import Record


@dataclass(frozen=True)
class Publication(Record):
    """What became of the rows of one batch or build, and the table's version afterwards.

    Published are rows that are new or changed, duplicates what the table held already, also where
    it was written anew; None where the two can't be told apart.
    """

    file_name = "publication.json"

    table: str
    rows_read: int
    rows_published: int | None
    rows_refused: int
    rows_duplicate: int | None
    version: int
    token: int = 0
