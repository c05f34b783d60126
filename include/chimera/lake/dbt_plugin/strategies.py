"""Incremental strategies as queries of a table's new content, given a model's rows.

In every query the table's rows are `DBT_INTERNAL_DEST` (or `DBT_INCREMENTAL_TARGET`) and the
model's `DBT_INTERNAL_SOURCE`, the names that dbt users know from `incremental_predicates`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from include.chimera.errors import ContractError
from include.chimera.lake.store.duckdb_sessions import identifier, quote
from include.chimera.relation import folded, spelling

if TYPE_CHECKING:
    from collections.abc import Sequence

_SOURCE = "DBT_INTERNAL_SOURCE"
_TARGETS = ("DBT_INTERNAL_DEST", "DBT_INCREMENTAL_TARGET", "DBT_INTERNAL_TARGET")


@dataclass(frozen=True)
class Rewrite:
    """How a model's rows change its table.

    Args:
        strategy: `append`, `merge`, `delete+insert`, `microbatch` or `snapshot`.
        keys: Columns of the unique key, as configured; in the table's spelling after `on`.
        update: Columns that a merge updates; None: all.
        exclude: Columns that a merge does not update.
        predicates: Conditions in addition to the key.
        event_time: Microbatch: the event time column.
        begin: Microbatch: start of the batch (inclusive).
        end: Microbatch: end of the batch (exclusive).
        valid_to: Snapshot: column with the end of a version's validity.
        current: Snapshot: SQL of the value of `valid_to` in current versions, None for null.
    """

    strategy: str
    keys: tuple[str, ...] = ()
    update: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    predicates: tuple[str, ...] = ()
    event_time: str = ""
    begin: str = ""
    end: str = ""
    valid_to: str = ""
    current: str | None = None

    @property
    def is_append(self) -> bool:
        """Whether the change can't affect existing rows."""
        return self.strategy == "append" or not (self.keys or self.strategy == "microbatch")

    def on(self, columns: Sequence[str], given: Sequence[str], where: str) -> Rewrite:
        """Return the rewrite with column names in the spelling of a given table.

        A merge does not update columns that the model lacks.

        Args:
            columns: The table's columns.
            given: The model's columns.
            where: Place for messages.

        Raises:
            ContractError: A configured column is missing from the table or the model.
        """
        known = {folded(name) for name in given}
        both = [column for column in columns if folded(column) in known]

        def found(option: str, names: Sequence[str], among: Sequence[str]) -> tuple[str, ...]:
            spelled = {name: spelling(name, among) for name in names}
            unknown = [name for name, there in spelled.items() if there is None]
            if unknown:
                is_nowhere = any(spelling(name, columns) is None for name in unknown)
                whose = "the table" if is_nowhere else "the model too"
                raise ContractError(
                    expected=f"{option} to name columns of {whose}",
                    came=", ".join(unknown),
                    where=where,
                    remedy="name columns of the model, as in its query; quotes are not needed",
                )
            return tuple(there for there in spelled.values() if there is not None)

        if self.strategy == "append":
            return self
        times = [self.event_time] if self.strategy == "microbatch" else []
        return replace(
            self,
            keys=found("unique_key", self.keys, both),
            update=self.update and found("merge_update_columns", self.update, both),
            exclude=(
                *found("merge_exclude_columns", self.exclude, columns),
                *(column for column in columns if column not in both),
            ),
            valid_to="".join(
                found("dbt_valid_to", [self.valid_to] if self.valid_to else [], columns)
            ),
            event_time="".join(found("event_time", times, both)),
        )

    def replaces(self, partition_by: Sequence[str]) -> bool:
        """Does the change replace whole partitions (those of the model's rows), reading none?"""
        return (
            self.strategy == "delete+insert"
            and len(self.keys) == 1
            and list(self.keys) == list(partition_by)
            and not self.predicates
        )

    @property
    def helpers(self) -> frozenset[str]:
        """Columns of the model's rows that control the change and are not stored."""
        return frozenset({"dbt_change_type"} if self.strategy == "snapshot" else ())

    def touched(self, table: str, source: str) -> str:
        """Return a query of the table's rows that are changed or removed.

        Args:
            table: Query of the table's rows.
            source: Name of the table with the model's rows.
        """
        return f"select * from ({table}) as {self._dest} where {self._is_touched(source)}"

    def content(self, table: str | None, source: str, columns: Sequence[str]) -> str:
        """Return a query of the rows after the change.

        Args:
            table: Query of the partitions to rewrite, with all of `columns`; None: keep none of
                their rows.
            source: Name of the table with the model's rows.
            columns: Columns to write.
        """
        names = ", ".join(identifier(column) for column in columns)
        if table is None:
            new = " where dbt_change_type = 'insert'" if self.strategy == "snapshot" else ""
            return f"select {names} from {source}{new}"
        if self.is_append:
            return f"select {names} from ({table}) union all select {names} from {source}"
        if self.strategy in ("merge", "snapshot"):
            return self._merged(table, source, columns)
        return (
            f"select {names} from ({table}) as {self._dest} "
            f"where ({self._is_touched(source)}) is not true "
            f"union all select {names} from {source}"
        )

    @property
    def _dest(self) -> str:
        text = " ".join(self.predicates).upper()
        return next((name for name in _TARGETS if name in text), _TARGETS[0])

    @property
    def _is_equal(self) -> str:
        names = [identifier(key) for key in self.keys]
        return " and ".join(f"{_SOURCE}.{name} = {self._dest}.{name}" for name in names)

    def _is_touched(self, source: str) -> str:
        ours = [text for text in self.predicates if not _names_source(text)]
        theirs = [text for text in self.predicates if _names_source(text)]
        if self.strategy == "microbatch":
            ours.append(f"{identifier(self.event_time)} >= {quote(self.begin)}")
            ours.append(f"{identifier(self.event_time)} < {quote(self.end)}")
            return _all(ours)
        if self.strategy == "snapshot":
            ours.append(self._is_current)
            theirs.append(f"{_SOURCE}.dbt_change_type in ('update', 'delete')")
        inner = _all([self._is_equal, *theirs])
        return _all([f"exists (select 1 from {source} as {_SOURCE} where {inner})", *ours])

    @property
    def _is_current(self) -> str:
        column = f"{self._dest}.{identifier(self.valid_to)}"
        return f"{column} is null" + (f" or {column} = {self.current}" if self.current else "")

    def _merged(self, table: str, source: str, columns: Sequence[str]) -> str:
        names = ", ".join(identifier(column) for column in columns)
        on = _all([self._is_equal, *self.predicates])
        matches, is_matched = source, "true"
        news = f"not exists (select 1 from ({table}) as {self._dest} where {on})"
        if self.strategy == "snapshot":
            matches = f"(from {source} where dbt_change_type in ('update', 'delete'))"
            news, is_matched = "dbt_change_type = 'insert'", self._is_current
        matched = _all([f"{_SOURCE}.lake_matched", is_matched])
        updated = ", ".join(self._value(column, matched) for column in columns)
        return (
            f"select {updated} from ({table}) as {self._dest} "
            f"left join (select *, true as lake_matched from {matches}) as {_SOURCE} on {on} "
            f"union all select {names} from {source} as {_SOURCE} where {news}"
        )

    def _value(self, name: str, matched: str) -> str:
        column = identifier(name)
        if not self._updates(name):
            return f"{self._dest}.{column} as {column}"
        ours, theirs = f"{_SOURCE}.{column}", f"{self._dest}.{column}"
        return f"case when {matched} then {ours} else {theirs} end as {column}"

    def _updates(self, name: str) -> bool:
        if self.strategy == "snapshot":
            return name == self.valid_to
        if self.update is not None:
            return name in self.update
        return name not in self.exclude


def _all(conditions: Sequence[str]) -> str:
    return " and ".join(f"({condition})" for condition in conditions)


def _names_source(text: str) -> bool:
    return re.search(rf"\b{_SOURCE}\b", text, re.IGNORECASE) is not None
