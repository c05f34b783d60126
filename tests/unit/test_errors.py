"""One tree of errors, each with four parts, which survive pickling."""

import pickle

import pytest

from include.chimera.errors import (
    ChimeraError,
    DataFaultError,
    RetryableError,
    TerminalError,
    UnexpectedError,
    kinds,
)


@pytest.mark.parametrize("kind", kinds())
def test_errors_survive_pickling_with_their_four_parts(kind: type[ChimeraError]) -> None:
    """A worker's error reaches its supervisor complete."""
    error = kind(expected="a", came="b", where="c", remedy="d")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - what we pickled ourselves
    assert (type(again), str(again)) == (kind, str(error))
    assert str(error) == "Expected a; came b. Where: c. Next: d"


def test_every_error_belongs_to_one_class_of_the_retry_policy() -> None:
    """The retries of an error in none, or in two, would be accidental."""
    classes = {RetryableError, DataFaultError, TerminalError}
    for kind in kinds():
        if kind not in {ChimeraError, UnexpectedError}:  # whose class is not known
            assert len(classes & set(kind.__mro__)) == 1, kind
