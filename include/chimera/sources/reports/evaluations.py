"""What every parser of a report yields: evaluations, refused records, and why a file is unusable.

A parser takes an open file of one tool and yields its records in any order. It reads by name and
skips every text: prompts, answers, goals and reasons never become Python objects.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

ATTACK, BENCHMARK = "attack", "benchmark"
MALFORMED_REPORT, MALFORMED_RECORD = "malformed_report", "malformed_record"
UNKNOWN_FORMAT, UNKNOWN_VERSION = "unknown_format", "unknown_version"
CONTRADICTORY = "counts_contradict_each_other"
# The tool itself says that the run did not end well, or does not say that it ended.
UNFINISHED, CANCELLED, FAILED = "unfinished_run", "cancelled_run", "failed_run"
NO_EVALUATIONS = "no_evaluations"  # a whole report in which nothing was evaluated

NAME_CHARACTERS = 200  # of a name that a tool gives; a longer one is a text
_NANO = Decimal("0.000000001")
_COUNT_LIMIT = 2**63


class ReportOrigin(NamedTuple):
    """Where a report comes from.

    Args:
        name: The file's path below the root, which stays the same when it is written again.
        written_at: When it was last written (UTC): nothing in it happened later.
        zone: The time zone of times that name none.
    """

    name: str
    written_at: datetime
    zone: ZoneInfo


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation, as bronze.evaluations holds it but for what the file as a whole decides.

    Of the `iterations`, each is passed by the model, a success of the attack, an error, or
    undetermined. None: the tool does not say, which is not zero.
    """

    evaluation_id: str
    created_at: datetime
    framework: str
    framework_version: str | None = None
    evaluation_kind: str
    provider_id: str | None = None
    model_id: str | None = None
    technique: str | None = None
    behaviour_id: str | None = None
    judge: str | None = None
    status: str
    iterations: int | None = None
    successes: int | None = None
    passes: int | None = None
    errors: int | None = None
    undetermined: int | None = None
    score: float | None = None
    score_stderr: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    latency_ms: float | None = None
    cost_usd: Decimal | None = None


class RefusedRecord(NamedTuple):
    """A record that can't become a row, without its content.

    Args:
        reason: Why.
        offset: Where it stands: of a line its first byte, of a list its index.
        length: How long it is in bytes; 0: not known.
        is_line: Whether the offset counts bytes.
    """

    reason: str
    offset: int
    length: int = 0
    is_line: bool = True


class FileFault(NamedTuple):
    """Why no row of the file counts; the last thing that a parser yields, if at all.

    Args:
        reason: Why.
        records: How many records were found until then.
    """

    reason: str
    records: int = 0


Found: TypeAlias = "Evaluation | RefusedRecord | FileFault"


def identity(*parts: object) -> str:
    """Return a key that the same parts have wherever they are found."""
    text = "\x1f".join("" if part is None else str(part) for part in parts)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def name_of(value: object) -> str | None:
    """Return what a tool calls something, None if it is no name but nothing, or a text."""
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    else:
        return None
    is_name = 0 < len(text) <= NAME_CHARACTERS and text.isprintable()
    return text if is_name else None


def moment_of(value: object, origin: ReportOrigin) -> datetime:
    """Return a time as UTC: of one without a zone in the origin's, of none the file's own.

    A file can't tell of what came after it was written, so a later time is the file's: its clock or
    the time zone that is set is wrong.
    """
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        if found is None:
            return origin.written_at
        aware = found if found.tzinfo else found.replace(tzinfo=origin.zone)
        return min(aware.astimezone(UTC), origin.written_at)
    except (ValueError, OverflowError):
        return origin.written_at


def status_of(*, judged: int | None, errors: int | None) -> str:
    """Return an evaluation's status: `completed` if anything was judged, else why it was not."""
    if judged:
        return "completed"
    return "error" if errors else "undetermined"


def count_of(value: object) -> int | None:
    """Return a count, None if it is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < _COUNT_LIMIT else None


def number_of(value: object) -> float | None:
    """Return a finite number, None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def cost_of(value: object) -> Decimal | None:
    """Return a cost in USD to nine decimals, as the contract holds it; None if it is none."""
    number = number_of(value)
    if number is None or not 0 <= number < 1e9:  # noqa: PLR2004 - the contract's decimal(18, 9)
        return None
    return Decimal(repr(number)).quantize(_NANO)
