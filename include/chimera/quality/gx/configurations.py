"""Spare GX most of the Python that it runs per rule."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from great_expectations.expectations.expectation import Expectation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration


@contextmanager
def configurations_kept() -> Iterator[None]:
    """Have GX work out the configuration of each expectation once.

    `Expectation.configuration` is a property that serializes the expectation at each look: 2,400
    times for a suite of 30 rules, a third of the gate's CPU (GX 1.24.1, 2026-11-24). While a suite
    is judged no expectation changes. Not for threads that judge at the same time: a process judges
    one table.
    """
    expectations: Any = Expectation
    worked_out = expectations.configuration
    kept: dict[int, tuple[Expectation, ExpectationConfiguration]] = {}

    def configuration(self: Expectation) -> ExpectationConfiguration:
        if id(self) not in kept:
            # The expectation is kept too, so that no other one gets its id.
            kept[id(self)] = (self, worked_out.fget(self))
        return kept[id(self)][1]

    expectations.configuration = property(configuration)
    try:
        yield
    finally:
        expectations.configuration = worked_out
