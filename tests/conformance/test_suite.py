"""Every class of dbt's conformance suite (dbt-tests-adapter), as a test of the lake.

The classes are found, not listed: what a new release of the suite adds is run. What can't pass
stands in `exceptions.LEFT_OUT` with its reason, and has to fail; what needs other fixtures, as
adapters give them, in `exceptions.FIXTURES`. `CORE` is what every change runs.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from pathlib import Path

import dbt.tests.adapter as suite
import pytest

from tests.conformance.exceptions import CORE, FIXTURES, LEFT_OUT

PREFIX = suite.__name__ + "."


def _modules():
    root = Path(next(iter(suite.__path__)))
    for path in sorted(root.rglob("*.py")):
        yield importlib.import_module(
            PREFIX + ".".join(path.relative_to(root).with_suffix("").parts)
        )


def _has_tests(cls) -> bool:
    return any(name.startswith("test_") for name in dir(cls))


def _is_alias(cls) -> bool:
    """Tell whether a class only gives another one a name that pytest collects."""
    own = set(vars(cls)) - {"__module__", "__doc__", "__firstlineno__", "__static_attributes__"}
    return not own and len(cls.__bases__) == 1 and _has_tests(cls.__bases__[0])


def suite_classes() -> dict[str, type]:
    """Return each class of the suite that has tests, by `<module>.<class>`."""
    return {
        f"{module.__name__.removeprefix(PREFIX)}.{name}": cls
        for module in _modules()
        for name, cls in vars(module).items()
        if inspect.isclass(cls) and cls.__module__ == module.__name__
        if _has_tests(cls) and not _is_alias(cls)
    }


CLASSES = suite_classes()


def _left_out(name: str) -> dict[str, str]:
    """Return which tests of a class are left out, all or single ones, each with its reason."""
    cls, tests = CLASSES[name], {}
    for test in (test for test in dir(cls) if test.startswith("test_")):
        for listed in (name, name.rpartition(".")[0], f"{name}.{test}"):
            if listed in LEFT_OUT:
                tests[test] = LEFT_OUT[listed]
    return tests


def _failing(test, reason: str):
    """Return a test that fails for the reason: once it passes, its exception has to go."""

    @functools.wraps(test)
    def run(*arguments, **fixtures):
        return test(*arguments, **fixtures)

    return pytest.mark.long(pytest.mark.xfail(reason=reason, strict=True)(run))


def test_each_exception_names_something_in_the_suite():
    known = set(CLASSES) | {name.rpartition(".")[0] for name in CLASSES}
    known |= {f"{name}.{test}" for name, cls in CLASSES.items() for test in dir(cls)}
    assert set(LEFT_OUT) | set(FIXTURES) <= known
    assert all(LEFT_OUT.values())


for _name, _class in CLASSES.items():
    _skipped = {
        test: _failing(getattr(_class, test), reason) for test, reason in _left_out(_name).items()
    }
    _test = "Test_" + _name.replace(".", "_")
    _marks = [pytest.mark.filterwarnings("ignore")]  # dbt's and the suite's own
    if not _name.startswith(CORE):
        _marks.append(pytest.mark.long)
    _members = {"pytestmark": _marks, "__test__": True, **_skipped}
    globals()[_test] = type(_test, (*FIXTURES.get(_name, ()), _class), _members)
