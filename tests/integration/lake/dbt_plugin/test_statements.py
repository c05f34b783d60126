"""A statement that changes a table is run on the table's newest rows, whoever wrote them."""

import pytest

from include.chimera.errors import CommitConflictError
from include.chimera.lake.dbt_plugin.statements import run_statements
from include.chimera.lake.delta.tables import drop_table

pytestmark = pytest.mark.integration
ADD = "insert into dev.model select count(*) from dev.model"


def test_a_statement_loses_nothing_that_another_process_added_meanwhile(process):
    one = process()
    one.build("select 10::bigint as id")
    other = process()
    assert other.rows() == [(10,)]
    one.build("select 20::bigint as id", "append")
    run_statements(other.session, other.connection, ADD)
    assert other.rows() == process().rows() == [(2,), (10,), (20,)]


def test_a_writer_that_is_first_is_seen_when_the_statement_runs_again(process, monkeypatch):
    """It comes between the copy and the commit, thrice."""
    one = process()
    one.build("select 10::bigint as id")
    other = process()
    replace, numbers = other.session.replace, iter((20, 30, 40))

    def overtaken(*arguments):
        for number in numbers:
            one.build(f"select {number}::bigint as id", "append")
            break
        return replace(*arguments)

    monkeypatch.setattr(other.session, "replace", overtaken)
    run_statements(other.session, other.connection, ADD)
    assert process().rows() == [(4,), (10,), (20,), (30,), (40,)]


def test_a_table_that_was_dropped_meanwhile_is_not_made_again(process):
    one = process()
    one.build("select 10::bigint as id")
    other = process()
    assert other.rows() == [(10,)]
    drop_table("dev.model")
    with pytest.raises(CommitConflictError, match="dropped meanwhile"):
        run_statements(other.session, other.connection, ADD)
