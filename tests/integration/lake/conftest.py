"""A small way to build a model there without dbt."""

from __future__ import annotations

import pytest

from include.chimera.lake.dbt_plugin.materializations import Order
from include.chimera.lake.dbt_plugin.session import Session
from include.chimera.lake.dbt_plugin.strategies import Rewrite
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.relation import Relation

TABLE = "dev.model"


class Process:
    """One process's view of the lake: each table at the version first read."""

    def __init__(self) -> None:
        self.connection = connect()
        self.session = Session(None)
        self.session.attach(self.connection)

    def build(self, query: str, strategy="all", table: str = TABLE, **order) -> None:
        """Store a query's rows in a table."""
        self.session.catalog.show_named(query)
        self.connection.execute(f"create or replace temp view incoming as {query}")
        rewrite = (
            strategy if strategy in ("all", "window") else Rewrite(strategy, **order.pop("how", {}))
        )
        self.session.write(self.connection, Order(Relation.of(table), "incoming", rewrite, **order))

    def rows(self, query: str = f"from {TABLE} order by all") -> list[tuple]:
        self.session.catalog.show_named(query)
        return self.connection.execute(query).fetchall()


@pytest.fixture
def process(lake):  # noqa: ARG001 - the lake is there first
    """Return what starts another process on the same lake."""
    started = []

    def start() -> Process:
        started.append(Process())
        return started[-1]

    yield start
    for process in started:
        process.connection.close()
