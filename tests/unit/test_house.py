"""The tree explains itself: each name once, no folder too full, each test where its module is."""

import ast
from collections import Counter
from pathlib import Path

from include.chimera.paths import INCLUDE, PROJECT

PACKAGE = INCLUDE / "chimera"
MODULES = [
    path for path in PACKAGE.rglob("*.py") if path.name not in {"__init__.py", "__main__.py"}
]
FULL = 10


def twice(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def classes(path: Path) -> list[str]:
    return [
        node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)
    ]


def test_no_module_name_stands_twice() -> None:
    """Each source has its `extract`: the same thing, once a source."""
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
