"""Sail as the Spark server, and lakes that it and DuckDB build alike."""

from __future__ import annotations

import pytest

from tests.integration.spark.building import Parsed
from tests.integration.spark.servers import sail


@pytest.fixture(scope="session")
def parsed(tmp_path_factory):
    """Return the project as parsed for Spark."""
    return Parsed.into(tmp_path_factory.mktemp("parsed"))


@pytest.fixture(scope="session")
def sail_remote(tmp_path_factory):
    """Return the address of a running Sail."""
    with sail(tmp_path_factory.mktemp("sail"), {}) as server:
        yield server.remote
