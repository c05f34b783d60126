"""What a profile reads of the platform's PostgreSQL for one bronze table.

Either a table, or view, whose columns bear the contract's names, or a query over the platform's own
table that gives it these columns. Nothing is created in the database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from itertools import starmap
from typing import TYPE_CHECKING

from include.chimera.errors import ConfigurationError
from include.chimera.profiles.profile_format import PostgresReader
from include.chimera.sources.postgres.column_check import check_columns, check_query_columns

if TYPE_CHECKING:
    from include.chimera.contracts import Contract
    from include.chimera.profiles.chosen import Intake
    from include.chimera.sources.postgres.sessions import SourceSnapshot

_BOUND = re.compile(r"(?<![:\w]):(lower|upper)\b")
_UNBOUND = {"lower": "-infinity", "upper": "infinity"}


Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class Selection:
    """Some of the rows.

    Args:
        place: What stands after `from`.
        inside: The PostgreSQL predicate of the rows of it that are wanted.
    """

    place: str
    inside: str = "true"


def _updated_in(lower: datetime, upper: datetime) -> str:
    return f"(updated_at >= '{lower.isoformat()}' and updated_at < '{upper.isoformat()}')"


@dataclass(frozen=True)
class PlatformRows:
    """The rows that fill one bronze table.

    Args:
        contract: The bronze table.
        reader: The profile's particulars.
        query: SQL with the contract's columns; its `:lower` and `:upper` become the bounds of
            `updated_at`, for conditions that an index helps. Empty: the table itself.
    """

    contract: Contract
    reader: PostgresReader
    query: str = ""

    @classmethod
    def of(cls, intake: Intake) -> PlatformRows:
        """Return what a profile reads for one bronze table.

        Raises:
            ConfigurationError: Its reader is none of PostgreSQL.
        """
        reader = intake.reader
        if not isinstance(reader, PostgresReader):
            raise ConfigurationError(
                expected=f"a profile that reads {intake.contract.name} from PostgreSQL",
                came=f"{intake.profile}, which reads {reader.shown}",
                where=f"include/profiles/{intake.profile}/profile.yml",
                remedy="let a reader of the kind `postgres` fill the table",
            )
        path = intake.folder / reader.query if reader.query else None
        return cls(intake.contract, reader, path.read_text().strip() if path else "")

    def between(self, lower: datetime | None = None, upper: datetime | None = None) -> str:
        """Return what stands after `from`: at least the rows with updated_at in [lower, upper).

        None: no bound. A query may still return other rows, so a condition has to follow.
        """
        if not self.query:
            return self.reader.table
        bounds = {
            name: moment.isoformat() if moment else _UNBOUND[name]
            for name, moment in (("lower", lower), ("upper", upper))
        }
        bounded = _BOUND.sub(lambda found: f"timestamptz '{bounds[found[1]]}'", self.query)
        # Else PostgreSQL would work out a column anew for each condition that names it.
        return f"({bounded}\noffset 0) as platform_rows"

    def updated_in(self, *spans: Span, since: datetime | None = None) -> Selection:
        """Return the rows with updated_at in one of the spans.

        Args:
            spans: Each with its start and its end, exclusive; at least one.
            since: The `:lower` of a query, if it is earlier than the first span's start.
        """
        lower, upper = min(start for start, _ in spans), max(end for _, end in spans)
        inside = " or ".join(starmap(_updated_in, spans))
        return Selection(self.between(since or lower, upper), f"({inside})")

    def present(self, source: SourceSnapshot) -> list[str]:
        """Return the contract's columns that the table or the query has, in the contract's order.

        Raises:
            ContractError: The columns are not what the contract allows.
        """
        if self.query:
            return check_query_columns(
                self.contract, source.result_columns(self.between()), self.reader.query
            )
        table = self.reader.table
        return check_columns(self.contract, source.columns(table), table)

    def are_distinct(self, source: SourceSnapshot) -> bool:
        """Does a unique index of the table prove that no key comes twice?"""
        key = self.reader.key or (() if self.query else self.contract.key)
        return bool(key) and source.has_unique_key(self.reader.table, key)
