"""What fills each bronze table follows from the profiles' files and one setting."""

import pytest

from include.chimera.contracts import BRONZE
from include.chimera.errors import ConfigurationError
from include.chimera.profiles import chosen
from include.chimera.profiles.chosen import SAMPLE, filled_tables, intake_of, intakes, sources
from include.chimera.quality.rules.book import gated_tables
from include.chimera.settings import get_settings


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that makes a profile and chooses it, beside those made before."""
    monkeypatch.setattr(chosen, "PROFILES", tmp_path)
    names = []

    def add(name, text):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "profile.yml").write_text(text)
        names.append(name)
        monkeypatch.setenv("CHIMERA_PROFILE", ", ".join(names))
        get_settings.cache_clear()
        chosen._together.cache_clear()

    yield add
    monkeypatch.undo()
    get_settings.cache_clear()
    chosen._together.cache_clear()


@pytest.mark.parametrize("name", chosen.profile_names())
def test_each_profile_of_the_project_can_be_read_and_has_its_page(name):
    assert intakes(name)
    assert (chosen.PROFILES / name / "README.md").read_text().startswith("# ")


def test_the_sample_fills_every_table():
    """It is what the suites, the marts and the reader's grants were made with."""
    assert [intake.contract for intake in intakes(SAMPLE)] == list(BRONZE)
    assert filled_tables() == [contract.name for contract in BRONZE]


def test_several_profiles_fill_tables_together(write):
    write("gateway", "platform: G\ntables: {bronze.generations: {reader: postgres, table: calls}}")
    write("watch", "platform: W\ntables: {bronze.api_logs: {reader: files, format: api_logs}}")
    assert filled_tables() == ["bronze.generations", "bronze.api_logs"]
    assert {source: len(read) for source, read in sources().items()} == {
        "app_db": 1,
        "api_logs": 1,
    }
    assert intake_of("bronze.generations").profile == "gateway"


def test_a_table_that_nothing_fills_has_no_gate(write):
    """Else no snapshot would ever be published."""
    write("watch", "platform: W\ntables: {bronze.api_logs: {reader: files, format: api_logs}}")
    gated = gated_tables()
    assert [name for name in gated if name.startswith("bronze.")] == ["bronze.api_logs"]
    assert "gold.fct_generations" in gated
    with pytest.raises(ConfigurationError, match=r"a profile that fills bronze\.models"):
        intake_of("bronze.models")


def test_two_profiles_for_one_table_are_named(write):
    for name in ("one", "two"):
        write(name, "platform: P\ntables: {bronze.models: {reader: postgres, table: models}}")
    with pytest.raises(ConfigurationError, match=r"one and two for bronze\.models"):
        intakes()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("platform: P", "tables: Field required"),
        ("platform: P\ntables: {}", "tables: Dictionary should have at least 1 item"),
        ("- platform", "a valid dictionary"),
        ("a: b: c", "mapping values are not allowed"),
        (
            "platform: P\ntables: {bronze.x: {reader: files, format: api_logs}}",
            "bronze.x, which",
        ),
        ("platform: P\ntables: {bronze.models: {reader: carrier-pigeon}}", "bronze.models"),
        ("platform: P\ntables: {bronze.models: {reader: files, format: json}}", "has a query"),
        (
            "platform: P\ntables: {bronze.models: {reader: postgres, table: t, colour: red}}",
            "colour: Extra inputs are not permitted",
        ),
        (
            "platform: P\ntables: {bronze.models: {reader: postgres, table: t, query: no.sql}}",
            "no file no.sql",
        ),
    ],
)
def test_a_file_that_is_not_a_profile_is_refused_by_what_is_wrong(write, text, named):
    write("odd", text)
    with pytest.raises(ConfigurationError, match=named) as caught:
        intakes()
    assert caught.value.where == "include/profiles/odd/profile.yml"


@pytest.mark.parametrize("name", ["unknown", "../chimera", "chimera,,", "Chimera"])
def test_a_profile_that_is_not_there_is_named(name, monkeypatch):
    monkeypatch.setenv("CHIMERA_PROFILE", name)
    get_settings.cache_clear()
    with pytest.raises(ConfigurationError, match="one or more of the profiles"):
        intakes()
    monkeypatch.undo()
    get_settings.cache_clear()
