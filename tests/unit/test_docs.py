"""Lists in the documentation match the repository."""

from __future__ import annotations

import re

import pytest

from include.chimera.contracts import CONTRACTS
from include.chimera.paths import INCLUDE, PROJECT, STATE
from include.chimera.profiles.chosen import SAMPLE, sources
from include.chimera.settings import Settings
from scripts.generate_docs import main, pages, shown_default

PIN = re.compile(r"^([\w.-]+)==(\S+)$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://)([^)#\s]+)[^)]*\)")
PLACE = re.compile(r"`((?:[\w.-]+/)+(?:[\w-]+\.(?:py|sql|yml|md|toml|json|sh))?)(?:::\w+)?`")
ROOTS = (PROJECT, INCLUDE, INCLUDE / "chimera", INCLUDE / "dbt", PROJECT / "tests")
PAGES = [
    *(PROJECT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((PROJECT / "docs").rglob("*.md")),
]


def folder_map() -> list[str]:
    """Return the paths of README's map of folders."""
    readme = (PROJECT / "README.md").read_text()
    block = readme.split("## Map of folders")[1].split("```")[1]
    lines = [line for line in block.splitlines()[1:] if line.strip()]
    paths, parents = [], {}
    for line in lines:
        level = (len(line) - len(line.lstrip())) // 2
        for name in line.strip().split("  ")[0].split(", "):
            parents[level] = name
            paths.append("".join(parents[above] for above in range(level)) + name)
    return paths


def test_generated_pages_are_what_the_code_says(capsys):
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_check_names_a_stale_page(monkeypatch, capsys):
    settings_page = PROJECT / "docs" / "settings.md"
    monkeypatch.setattr("scripts.generate_docs.pages", lambda _: {settings_page: "older"})
    assert main(["--check"]) == 1
    assert "docs/settings.md" in capsys.readouterr().err


def test_each_setting_and_table_is_documented():
    settings, dictionary, env_example, role, *_ = pages(PROJECT).values()
    for name in Settings.model_fields:
        assert f"`CHIMERA_{name.upper()}`" in settings
    assert "CHIMERA_LAKE_ROOT=" in env_example
    for intake in sources(SAMPLE)["app_db"]:
        assert f") on {intake.reader.table} to" in role
    for name, contract in CONTRACTS.items():
        section = dictionary.split(f"### {name}\n")[1].split("###")[0]
        assert all(f"| `{column}` |" in section for column in contract.schema.names)


def test_shown_default_hides_where_the_project_stands():
    assert shown_default(PROJECT / ".chimera") == "<project>/.chimera"
    assert shown_default(None) == ""
    assert shown_default(60.0) == "60"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_pages_name_only_places_that_exist(page):
    """A place is a path that starts at a folder of the repository, the package or the tests."""
    for place in PLACE.findall(page.read_text()):
        first = place.split("/")[0]
        roots = [root for root in ROOTS if (root / first).is_dir() and first != STATE.name]
        assert not roots or any((root / place).exists() for root in roots), place


def test_folder_map_lists_only_what_exists():
    missing = [path for path in folder_map() if not (PROJECT / path).exists()]
    assert not missing


def test_folder_map_lists_each_room_of_the_package():
    rooms = {path.parent for path in (INCLUDE / "chimera").rglob("*/*.py")}
    unlisted = {f"{room.relative_to(PROJECT)}/" for room in rooms} - set(folder_map())
    assert not unlisted


def test_pins_stand_in_the_versions_page_with_their_reason():
    versions = (PROJECT / "docs" / "versions.md").read_text()
    for file in ("requirements.txt", "requirements-dev.txt"):
        for package, pin in PIN.findall((PROJECT / file).read_text()):
            assert f"| `{package}` | `{pin}` |" in versions, f"{package}=={pin}"


def test_adrs_have_context_decision_and_consequence():
    records = sorted((PROJECT / "docs" / "adr").glob("*.md"))
    numbers = [record.name[:4] for record in records]
    assert numbers[0] == "0001"
    assert len(numbers) == len({*numbers})
    for record in records:
        titles = re.findall(r"^## (.*)$", record.read_text(), re.MULTILINE)
        assert titles == ["Context", "Decision", "Consequence"], record.name


def test_map_of_the_usual_folders_names_real_places():
    page = (PROJECT / "docs" / "astro.md").read_text()
    rows = re.findall(
        r"^\| `[^|]*\| ([^|]*)\|", page.split("## Where the usual folders went")[1], re.MULTILINE
    )
    places = {place for row in rows for place in re.findall(r"`([\w./-]+)`", row)}
    assert len(places) > 10
    assert not [place for place in places if not (PROJECT / place).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_pages_name_only_targets_of_the_makefile(page):
    targets = re.findall(r"^([a-z][\w-]*):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:`|^|> )make ([a-z][\w-]*)", page.read_text(), re.MULTILINE)
    assert set(named) <= set(targets)
