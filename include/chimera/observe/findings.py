"""What a check found: the words of `doctor`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from include.chimera.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SKEW_SECONDS = 5.0  # what the safe bound keeps from the database's clock


@dataclass(frozen=True)
class Finding:
    """The result of one check; what could not be checked counts as not kept.

    Args:
        check: What was tried.
        is_kept: Whether it is as it should be.
        text: What was seen, or what is missing.
        remedy: What mends it, a command where there is one; "": nothing to mend.
    """

    check: str
    is_kept: bool
    text: str
    remedy: str = ""


@dataclass
class Trial:
    """A check while it runs; without a text it has found nothing wrong."""

    check: str
    text: str = "ok"
    faults: list[tuple[str, str]] = field(default_factory=list)

    def fault(self, text: str, remedy: str) -> None:
        """Note what is not as it should be, and what mends it."""
        self.faults.append((text, remedy))

    def finding(self) -> Finding:
        """Return the result."""
        if not self.faults:
            return Finding(self.check, is_kept=True, text=self.text)
        texts, remedies = zip(*self.faults, strict=True)
        return Finding(self.check, is_kept=False, text="; ".join(texts), remedy="; ".join(remedies))


@contextmanager
def checking(check: str) -> Iterator[Trial]:
    """Yield a check; an error of ours that ends it is its fault."""
    found = Trial(check)
    try:
        yield found
    except ChimeraError as error:
        found.fault(f"{error.came} (expected {error.expected})", error.remedy)


def skew(check: str, told: datetime) -> Finding:
    """Compare a server's clock with this machine's."""
    with checking(check) as clock:
        ahead = (told - datetime.now(UTC)).total_seconds()
        clock.text = f"{ahead:+.1f} s beside this machine's"
        if abs(ahead) > _SKEW_SECONDS:
            clock.fault(clock.text, "set both clocks by NTP (timedatectl set-ntp true)")
    return clock.finding()
