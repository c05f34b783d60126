"""Which reader fills each bronze table: the profiles that the setting `profile` names, together.

A bronze table that none of them fills has no task and no rows; models read it as an empty table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from include.chimera.contracts import BRONZE, Contract
from include.chimera.errors import ConfigurationError
from include.chimera.paths import INCLUDE
from include.chimera.profiles.profile_format import PostgresReader, Profile, read_document, words_of
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from include.chimera.profiles.profile_format import Reader

PROFILES = INCLUDE / "profiles"
SAMPLE = "chimera"  # the profile of the sample application


@dataclass(frozen=True)
class Intake:
    """How one bronze table is filled.

    Args:
        contract: The table.
        profile: The profile's name.
        reader: What fills the table, with its particulars.
        folder: The profile's folder.
    """

    contract: Contract
    profile: str
    reader: Reader
    folder: Path

    @property
    def source(self) -> str:
        """The source that its extract waits for and reads."""
        return self.reader.source

    @property
    def rules(self) -> Path | None:
        """The file of the rules that only this profile's rows keep; None: it has none."""
        path = self.folder / "rules" / f"{self.contract.name}.yml"
        return path if path.is_file() else None

    @property
    def compared(self) -> Literal["deleted", "missing"] | None:
        """The rows that the daily comparison of keys looks for; None: there is none."""
        if isinstance(self.reader, PostgresReader) and self.contract.kind == "versions":
            return self.reader.daily
        return None


def profile_names() -> list[str]:
    """Return the names of all profiles, sorted."""
    return sorted(path.parent.name for path in PROFILES.glob("*/profile.yml"))


def intakes(profiles: str = "") -> tuple[Intake, ...]:
    """Return how each bronze table is filled that a profile fills, in the catalogue's order.

    Args:
        profiles: Names, separated by commas; empty: those that the setting chooses.

    Raises:
        ConfigurationError: A profile is unknown or not as its format says, or two fill one table.
    """
    return _together(profiles or get_settings().profile)


def intake_of(table: str) -> Intake:
    """Return how a bronze table is filled.

    Raises:
        ConfigurationError: No chosen profile fills it, or as `intakes`.
    """
    for intake in intakes():
        if intake.contract.name == table:
            return intake
    raise ConfigurationError(
        expected=f"a profile that fills {table}",
        came=f"CHIMERA_PROFILE={get_settings().profile}",
        where="include/profiles",
        remedy="add one that does, separated by a comma",
    )


def filled_tables() -> list[str]:
    """Return the names of the bronze tables that a chosen profile fills."""
    return [intake.contract.name for intake in intakes()]


def sources(profiles: str = "") -> dict[str, list[Intake]]:
    """Return what is read from each source, for `profiles` as in `intakes`."""
    found: dict[str, list[Intake]] = {}
    for intake in intakes(profiles):
        found.setdefault(intake.source, []).append(intake)
    return found


@cache
def _together(names: str) -> tuple[Intake, ...]:
    found: dict[str, Intake] = {}
    for name in dict.fromkeys(part.strip() for part in names.split(",")):
        for intake in read_profile(name):
            other = found.setdefault(intake.contract.name, intake)
            if other is not intake:
                raise ConfigurationError(
                    expected="one profile for each bronze table",
                    came=f"{other.profile} and {name} for {intake.contract.name}",
                    where="CHIMERA_PROFILE",
                    remedy="choose one of them, or take the table out of a copy of the other",
                )
    return tuple(found[contract.name] for contract in BRONZE if contract.name in found)


def read_profile(name: str) -> list[Intake]:
    """Read one profile's `profile.yml`.

    Raises:
        ConfigurationError: There is none of this name, or it is not as its format says.
    """
    folder = PROFILES / name
    if name not in profile_names():
        raise ConfigurationError(
            expected=f"one or more of the profiles {', '.join(profile_names())}",
            came=repr(name),
            where="CHIMERA_PROFILE",
            remedy="name one of them, several separated by commas",
        )
    try:
        profile = Profile.model_validate(read_document(folder / "profile.yml"))
        return list(_intakes(name, folder, profile))
    except ValueError as error:
        raise ConfigurationError(
            expected="a profile as include/chimera/profiles/profile_format.py says",
            came=words_of(error),
            where=f"include/profiles/{name}/profile.yml",
            remedy="correct it; the other profiles are examples",
        ) from None


def _intakes(name: str, folder: Path, profile: Profile) -> Iterator[Intake]:
    known = {contract.name: contract for contract in BRONZE}
    for table, reader in profile.tables.items():
        if table not in known:
            raise ValueError(f"{table}, which is none of {', '.join(known)}")  # noqa: EM102, TRY003 - becomes `came`
        for file in reader.files:
            if not (folder / file).is_file():
                raise ValueError(f"{table} with no file {file}")  # noqa: EM102, TRY003 - as above
        yield Intake(known[table], name, reader, folder)
