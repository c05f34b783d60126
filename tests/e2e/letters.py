"""Letters as a run with another rule left them, in the lake of a running stack."""

import json
import uuid
from contextlib import contextmanager
from unittest.mock import patch

from include.chimera.contracts import GENERATIONS
from include.chimera.lake.dead_letters.letters import append_letters, letter_states, letters_query
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store.duckdb_sessions import among, connect
from include.chimera.settings import get_settings
from include.chimera.window import Run


@contextmanager
def lake_of(state):
    """Let this process see the lake of a state folder."""
    with patch.dict("os.environ", CHIMERA_STATE_DIR=str(state)):
        get_settings.cache_clear()
        yield
    get_settings.cache_clear()


def refuse_generation(window, **changes):
    """Append the letter of a generation of the window; return the letter's and the row's id."""
    moment, name = window.start.isoformat(), str(uuid.uuid4())
    row = {"generation_id": name, "created_at": moment, "updated_at": moment, "cost_usd": 0.5}
    payload = json.dumps({**row, "status": "succeeded", **changes})
    record = (
        f"select 'old_rule' as reason, '{{}}' as coordinates, encode('{payload}') as payload, "
        f"'{window.labels()[0]}' as _window_hour"
    )
    run = Run(f"older__{name}", window)
    with connect() as connection:
        query = letters_query(record, GENERATIONS.name, "gate", run)
        append_letters(connection, query, run)
        (letter,) = connection.execute(f"select letter_id from ({query})").fetchone()
    return letter, name


def states_of(letters):
    """Return the state, attempts and last reason of each letter."""
    with connect() as connection:
        found = connection.execute(
            f"select letter_id, state, attempts, last_reason from ({letter_states()}) "
            f"where {among('letter_id', letters)}"
        ).fetchall()
    states = {letter: tuple(rest) for letter, *rest in found}
    return [states[letter] for letter in letters]


def published(generations):
    """Return the ids among these that the table of generations holds, once for each row."""
    with connect() as connection:
        rows = scan(open_table(GENERATIONS.name), GENERATIONS.name)
        found = connection.execute(
            f"select generation_id from ({rows}) where {among('generation_id', generations)}"
        )
        return [name for (name,) in found.fetchall()]
