"""Replay dead letters: parse, judge and publish them with the same code as a new hour.

A replay takes the waiting letters hour by hour. A letter that still can't be parsed or still breaks
a row rule waits for the next of three attempts, then is parked. The others go through their table's
whole gate. A replay that dies at any point can be repeated: publishing a row twice changes nothing.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import starmap
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from include.chimera.contracts import API_LOGS, CONTRACTS, PARTITION, REPLAYED
from include.chimera.errors import GateFailedError, LetterMissingError
from include.chimera.fault_points import fault_point
from include.chimera.lake.dead_letters.letters import (
    MAX_ATTEMPTS,
    Event,
    append_letters,
    event_query,
    letter_states,
)
from include.chimera.lake.publish.stop_switch import require_publishing
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import stage_rows
from include.chimera.lake.store.duckdb_sessions import among, connect, quote
from include.chimera.quality.acceptance import current_user, require_reason
from include.chimera.quality.batches import window_and_keys
from include.chimera.quality.gate import open_gate
from include.chimera.quality.rules.book import rule_book
from include.chimera.quality.rules.good_and_bad_rows import BROKEN, tagged
from include.chimera.sources.api_logs.extract import row_of
from include.chimera.sources.row_versions import typed
from include.chimera.window import Run, Window, parse_hour

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from duckdb import DuckDBPyConnection

    from include.chimera.contracts import Contract

LETTERS_AT_ONCE = 10_000
LETTER = "_letter_id"
_UNREADABLE, _GATE = "payload_not_readable", "gate_failed"


@dataclass(frozen=True)
class _Letter:
    """A waiting letter, as stored in the dead letters' table."""

    letter_id: str
    source: str
    hour: str
    coordinates: str
    payload: bytes | None
    payload_bytes: int
    stage: str
    attempts: int

    @cached_property
    def row(self) -> Mapping[str, object] | None:
        """The record's row in the contract's types, None if the payload can't be rebuilt."""
        return _rebuild(self)


@dataclass(frozen=True)
class Replay:
    """The outcome of replaying one table's letters of one hour."""

    source: str
    hour: str
    letters: int
    published: int
    parked: int


def replay(source: str | None = None, letter_ids: Sequence[str] = ()) -> list[Replay]:
    """Replay waiting letters, at most 10,000 at once.

    Args:
        source: Bronze table; None: all of them. A reference table is read whole by each run, so its
            letters need no replay.
        letter_ids: The letters to replay; empty: all.

    Raises:
        PublishingStoppedError: A person has stopped publishing; no attempt is counted.
        CommitConflictError: Every attempt to commit lost to another writer.
        SourceUnavailableError, LakeError: The lake can't be read or written; try again.
    """
    require_publishing("ops.dead_letters")
    condition = f"state = 'waiting' and {among('source', [source] if source else REPLAYED)}"
    if letter_ids:
        condition += f" and {among('letter_id', letter_ids)}"
    with connect() as connection:
        found = connection.execute(
            f"select letter_id, source, {PARTITION} as hour, coordinates, payload, payload_bytes, "
            f"stage, attempts from ({letter_states()}) where {condition} "
            f"order by source, hour, letter_id limit {LETTERS_AT_ONCE}"
        )
        groups: dict[tuple[str, str], list[_Letter]] = defaultdict(list)
        for letter in starmap(_Letter, found.fetchall()):
            row = letter.row
            hour = str(row[PARTITION]) if row and PARTITION in row else letter.hour
            groups[letter.source, hour].append(letter)
        return [_replay(connection, *key, letters) for key, letters in groups.items()]


def park(letter_id: str, reason: str) -> None:
    """Exclude a letter from replay for good; record who did it and why.

    Raises:
        LetterMissingError: No letter with that id is waiting.
        ControlRefusedError: The reason is empty.
    """
    words = require_reason(reason)
    run = Run(f"park__{letter_id}", Window.of_hour(datetime.now().astimezone()), False)
    with connect() as connection:
        if not _record(connection, run, "parked", {letter_id: words}, parked_by=current_user()):
            raise LetterMissingError(
                expected="a waiting letter", came=repr(letter_id), where="ops.dead_letters"
            )


def _replay(
    connection: DuckDBPyConnection, source: str, hour: str, letters: list[_Letter]
) -> Replay:
    window = Window.of_hour(parse_hour(hour))
    run = Run(f"replay__{source}__{hour}__{time.time_ns()}", window, moves_watermark=False)
    reasons = _judge(run, source, letters)
    _record(connection, run, "replayed", reasons, attempt=1)
    good = [letter.letter_id for letter in letters if not reasons[letter.letter_id]]
    fault_point("replay.staged")
    if good and not _publish(run, source):
        good = []
    fault_point("replay.published")
    published = _record(connection, run, "published", dict.fromkeys(good, ""))
    tired = {
        letter.letter_id: reasons[letter.letter_id] or _GATE
        for letter in letters
        if letter.letter_id not in good and letter.attempts + 1 >= MAX_ATTEMPTS
    }
    parked = _record(connection, run, "parked", tired)
    return Replay(source, hour, len(letters), published, parked)


def _judge(run: Run, source: str, letters: list[_Letter]) -> dict[str, str]:
    """Stage the letters that can be published; return all letters' reasons, empty for those."""
    contract = CONTRACTS[source]
    rows = [{**letter.row, LETTER: letter.letter_id} for letter in letters if letter.row]
    reasons = {letter.letter_id: _UNREADABLE for letter in letters}
    schema = _schema(contract).append(pa.field(LETTER, pa.string()))
    table = pa.Table.from_pylist(rows, schema=schema)
    query = "select * from source"
    if contract.kind == "versions":
        query = typed(contract, LETTER)
    batch = Batch(source, draw_token(source, [run.window.labels()[0]]), is_addition=True)
    with connect() as connection:
        window_and_keys(rule_book(source), run, batch, connection)(connection)
        connection.register("source", table)
        judged = connection.execute(tagged(source, query)).to_arrow_table()
    for letter, broken in zip(judged[LETTER].to_pylist(), judged[BROKEN].to_pylist(), strict=True):
        reasons[letter] = ",".join(broken)
    is_good = [not broken for broken in judged[BROKEN].to_pylist()]
    good = judged.filter(pa.array(is_good, pa.bool_()))
    if good.num_rows:
        hours = run.window.labels() if contract.kind == "events" else []
        staged = Batch(source, batch.token, hours=hours, is_addition=contract.kind == "events")
        stage_rows(run, staged, good.to_reader())
    return reasons


def _publish(run: Run, source: str) -> bool:
    """Pass the staged letters through their table's gate; return whether they were published."""
    with open_gate(source, run) as gate:
        gate.checkpoint(gate.context()).run()
        try:
            gate.publish()
        except GateFailedError:
            return False
    return True


def _record(
    connection: DuckDBPyConnection,
    run: Run,
    event: Event,
    reasons: dict[str, str],
    *,
    attempt: int = 0,
    **notes: str,
) -> int:
    """Append one event for each of the given letters that waits; return how many.

    Args:
        connection: DuckDB session.
        run: The run in which it happened.
        event: What happened to the letters.
        reasons: Reason by letter id.
        attempt: What to add to the letters' attempts.
        notes: Extra commit metadata.
    """
    if not reasons:
        return 0
    values = ", ".join(f"({quote(name)}, {quote(text)})" for name, text in reasons.items())
    letters = (
        f"select states.* replace (attempts + {attempt} as attempts), why "
        f"from ({letter_states()}) as states join (values {values}) as told (letter_id, why) "
        "using (letter_id) where state = 'waiting'"
    )
    return append_letters(connection, event_query(letters, event, run, reason="why"), run, notes)


def _rebuild(letter: _Letter) -> Mapping[str, object] | None:
    """Return the record's row in the contract's types, None if the payload can't be rebuilt.

    Check here that the row fits its table and that its hour exists, because one letter that does
    not would stop the replay of all others.
    """
    contract = CONTRACTS[letter.source]
    try:
        row = _parsed(letter)
        if row is not None:
            pa.Table.from_pylist([row], schema=_schema(contract))
            Window.of_hour(parse_hour(str(row.get(PARTITION, letter.hour))))
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        return None
    return row


def _parsed(letter: _Letter) -> Mapping[str, object] | None:
    contract, payload = CONTRACTS[letter.source], letter.payload
    if payload is None or letter.payload_bytes > len(payload):
        return None
    if letter.source == API_LOGS.name and letter.stage == "extract":
        place = json.loads(letter.coordinates)
        return row_of(place["file"], place["offset"], payload)
    fields = json.loads(payload, parse_float=Decimal)
    return {
        name: _value(fields.get(name), contract.schema.field(name).type)
        for name in fields
        if name in contract.schema.names
    }


def _schema(contract: Contract) -> pa.Schema:
    """Return the columns that a letter's record can have, all nullable."""
    names = contract.source_columns if contract.kind == "versions" else contract.schema.names
    return pa.schema([contract.schema.field(name).with_nullable(True) for name in names])


def _value(value: Any, kind: pa.DataType) -> Any:  # noqa: ANN401 - any column's value
    if value is None:
        return None
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat(value)
    if pa.types.is_decimal(kind):
        return Decimal(str(value))
    return float(value) if pa.types.is_floating(kind) else value
