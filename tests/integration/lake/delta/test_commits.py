"""If two commits start from one version, the loser is decided anew from the winner's version."""

from collections.abc import Callable

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from duckdb import DuckDBPyConnection

from include.chimera.errors import CommitConflictError
from include.chimera.lake.delta import commits
from include.chimera.lake.delta.commits import Change, commit
from include.chimera.lake.delta.tables import contract_table, open_table
from tests.builders import generations, publish, run_of
from tests.integration.lake.conftest import Process

pytestmark = pytest.mark.integration

TABLE = "bronze.generations"


def test_a_commit_that_lost_is_decided_anew(connection: DuckDBPyConnection) -> None:
    """The second decision sees what the winner committed."""
    seen = []

    def decide(table: DeltaTable) -> Change:
        seen.append(table.version())
        if len(seen) == 1:
            publish(connection, run_of(), TABLE, generations(1))
        return Change(marks={"mine": 1})

    table, _ = commit(TABLE, lambda: contract_table(TABLE), decide)
    assert seen == [0, 1]
    assert (table.version(), table.transaction_version("mine")) == (2, 1)


def test_a_commit_gives_up_after_a_bounded_number_of_attempts(
    connection: DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others always win: the error says so, and the table is as the winners left it."""
    monkeypatch.setattr(commits, "_ATTEMPTS", 3)
    rivals = iter(range(100))

    def decide(_: DeltaTable) -> Change:
        publish(connection, run_of(), TABLE, generations(1, status=f"'{next(rivals)}'"))
        return Change(marks={"mine": 1})

    with pytest.raises(CommitConflictError, match="within 3 attempts"):
        commit(TABLE, lambda: contract_table(TABLE), decide)
    assert next(rivals) == 3


def test_a_decision_for_nothing_commits_nothing(connection: DuckDBPyConnection) -> None:
    """No empty versions."""
    del connection
    table, change = commit(TABLE, lambda: contract_table(TABLE), lambda _: None)
    assert (table.version(), change) == (0, None)


@pytest.mark.parametrize("strategy", ["append", "merge"])
def test_a_commit_whose_answer_was_lost_is_not_made_again(
    process: Callable[[], Process], monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """The store has it, tries the put again and meets it: our own commit is no other writer's."""
    one = process()
    one.build("select 1 as id")
    put, lost = DeltaTable.create_write_transaction, []

    def losing(*given: object, **options: object) -> None:
        put(*given, **options)
        if not lost:
            lost.append("the answer")
            raise CommitFailedError

    monkeypatch.setattr(DeltaTable, "create_write_transaction", losing)
    one.build("select 2 as id", strategy, how={"keys": ("id",)})
    assert lost
    assert process().rows() == [(1,), (2,)]
    assert open_table("dev.model").version() == 1
