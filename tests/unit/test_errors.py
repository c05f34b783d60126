"""One tree of errors, each with four parts, each whole after pickling."""

import ast
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
from include.chimera.paths import INCLUDE


@pytest.mark.parametrize("kind", kinds())
def test_errors_survive_pickling_with_their_four_parts(kind: type[ChimeraError]) -> None:
    """A worker's error reaches its supervisor whole."""
    error = kind(expected="a", came="b", where="c", remedy="d")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - what we pickled ourselves
    assert (type(again), str(again)) == (kind, str(error))
    assert str(error) == "Expected a; came b. Where: c. Next: d"


def test_every_error_belongs_to_one_class_of_the_retry_policy() -> None:
    """An error that is in none, or in two, would be retried by accident."""
    classes = {RetryableError, DataFaultError, TerminalError}
    for kind in kinds():
        if kind not in {ChimeraError, UnexpectedError}:  # whose class is not known
            assert len(classes & set(kind.__mro__)) == 1, kind


def test_each_error_is_given_the_parts_that_its_class_does_not_say() -> None:
    """A forgotten remedy would be an empty one."""
    classes, seen = {kind.__name__: kind for kind in kinds()}, 0
    for path in (INCLUDE / "chimera").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            kind = isinstance(call, ast.Call) and classes.get(ast.unparse(call.func))
            if kind and not call.args:
                said = {"expected": kind.expects, "came": "", "where": "", "remedy": kind.helps}
                given = {keyword.arg for keyword in call.keywords}
                assert {part for part, text in said.items() if not text} <= given, (path, kind)
                seen += 1
    assert seen > 100
