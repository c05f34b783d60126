"""The tree explains itself: unique names, small folders, each test where its module is."""

import ast
import re
from collections import Counter
from pathlib import Path

from include.chimera.errors import kinds
from include.chimera.paths import INCLUDE, PROJECT

PACKAGE = INCLUDE / "chimera"
MODULES = [
    path for path in PACKAGE.rglob("*.py") if path.name not in {"__init__.py", "__main__.py"}
]
FULL = 10


def twice(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def classes(path: Path) -> list[str]:
    return re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE)


def test_no_module_name_stands_twice() -> None:
    """Except `extract`, which each source has."""
    names = twice([path.stem for path in MODULES])
    assert names == ["extract"]
    assert all(p.parent.parent.name == "sources" for p in MODULES if p.stem == "extract")


def test_no_class_name_stands_twice() -> None:
    names = [name for path in MODULES for name in classes(path) if not name.startswith("_")]
    assert len(names) > 100
    assert not twice(names)


def test_no_folder_holds_more_than_a_reader_takes_in() -> None:
    counts = Counter(path.parent.relative_to(PACKAGE).as_posix() for path in MODULES)
    assert not {folder: count for folder, count in counts.items() if count > FULL}


def test_each_unit_test_stands_where_its_module_does() -> None:
    unit = PROJECT / "tests" / "unit"
    places = {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in MODULES}
    tests = {
        path.relative_to(unit).with_suffix("").as_posix().replace("/test_", "/")
        for path in unit.glob("*/**/test_*.py")
    }
    assert len(tests) > 20
    assert tests <= places


def test_each_error_is_given_the_parts_that_its_class_does_not_say() -> None:
    """A forgotten remedy would be empty."""
    known, seen = {kind.__name__: kind for kind in kinds()}, 0
    for path, text in ((path, path.read_text()) for path in MODULES):
        nodes = ast.walk(ast.parse(text)) if "Error(" in text else ()
        for call in (node for node in nodes if type(node) is ast.Call):
            kind = known.get(getattr(call.func, "id", ""))
            if kind and not call.args:
                said = {"expected": kind.expects, "came": "", "where": "", "remedy": kind.helps}
                given = {keyword.arg for keyword in call.keywords}
                assert {part for part, words in said.items() if not words} <= given, (path, kind)
                seen += 1
    assert seen > 100
