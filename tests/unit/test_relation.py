"""A relation's identity: equal without case, and kept by its text form and its folder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.chimera.errors import ContractError
from include.chimera.lake.store.places import decoded, encoded
from include.chimera.relation import Relation

NASTY = st.sampled_from(["select", "events.v2", "_x", "_views", "ключ", "ñandú", "100%", "a%41b",
                         "it's", 'a "b"', "a b", "a/b", "..", "~6f~", "x=1", "[a]*?"])  # fmt: skip
NAMES = NASTY | st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda text: text.isprintable() and not text.isspace()
)


@given(NAMES, NAMES)
def test_text_form_leads_back_to_the_same_relation(schema: str, identifier: str) -> None:
    found = Relation.parse(str(Relation(schema, identifier)))
    assert (found.schema, found.identifier) == (schema, identifier)


@given(NAMES)
def test_folder_leads_back_to_the_name_and_needs_no_decoding_by_a_reader(name: str) -> None:
    folder = encoded(name)
    assert decoded(folder) == name
    assert folder.isascii()
    assert not set(folder) & set("%/\\*?[]{}'\" =#")
    assert folder[0] not in "._"


@given(NAMES, NAMES)
def test_two_relations_never_share_a_text(one: str, two: str) -> None:
    assert (str(Relation(one, two)) == str(Relation(two, one))) == (one == two)


def test_plain_names_keep_the_form_that_lakes_and_marks_have() -> None:
    assert str(Relation("silver", "fct_generations")) == "silver.fct_generations"
    assert encoded("fct_generations") == "fct_generations"


def test_two_spellings_are_one_relation() -> None:
    assert Relation("Dev", "Events") == Relation("dev", "eVENTS")
    assert len({Relation("dev", "É"), Relation("dev", "é")}) == 1
    assert Relation("dev", "a.b") != Relation("dev.a", "b")


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\0b", "\ud800"])
def test_a_name_that_nothing_can_carry_is_refused(name: str) -> None:
    with pytest.raises(ContractError, match="printable"):
        Relation("dev", name)


@pytest.mark.parametrize("text", ["events", "dev.events.v2", "dev.", ".x", 'dev."a"b"'])
def test_text_that_is_no_relation_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="<schema>"):
        Relation.parse(text)


def test_a_name_too_long_for_a_folder_is_refused() -> None:
    with pytest.raises(ContractError, match="at most 200"):
        encoded("ж" * 60)
