"""LiteLLM's database by its own migrations, rows as it writes them, and its own daily sums."""

import json
from contextlib import suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg

MIGRATIONS = Path(find_spec("litellm_proxy_extras").origin).parent / "migrations"
NEWEST = "9"
_numbers = count()

# What its DailyUserSpend holds by day and model: the day of "startTime", one request a row, and a
# success unless the metadata say failure. Source: db_spend_update_writer.py and get_request_status.
DAILY = """
    select to_char("startTime", 'YYYY-MM-DD') as date, model,
        sum(prompt_tokens)::bigint, sum(completion_tokens)::bigint, sum(spend),
        count(*), count(*) filter (where metadata ->> 'status' = 'failure')
    from "LiteLLM_SpendLogs" group by 1, 2 order by 1, 2
"""


class Database:
    """A database with all migrations before a date.

    Args:
        server: The PostgreSQL that it is on.
        before: `YYYYMMDD` of the first migration that it lacks.
    """

    def __init__(self, server, before=NEWEST):
        self._server, self._name = server, f"litellm_{next(_numbers)}"
        self._session = psycopg.connect(self._made(before), autocommit=True)

    def _made(self, before):
        template = f"template_litellm_{before}"
        with psycopg.connect(self._server.uri(), autocommit=True) as session:
            known = session.execute("select 1 from pg_database where datname = %s", [template])
            if not known.fetchone():
                session.execute(f"create database {template}")
                with psycopg.connect(self._at(template), autocommit=True) as made:
                    for migration in sorted(MIGRATIONS.glob("*/migration.sql")):
                        if migration.parent.name < before:
                            made.execute(migration.read_text())
            session.execute(f"create database {self._name} template {template}")
        return self.uri()

    def _at(self, name):
        return self._server.uri().replace("/postgres?", f"/{name}?")

    def uri(self):
        return self._at(self._name)

    def drop(self):
        self._session.close()
        with psycopg.connect(self._server.uri(), autocommit=True) as session, suppress(Exception):
            session.execute(f"drop database {self._name} with (force)")

    def query(self, sql, *values):
        found = self._session.execute(sql, values or None)
        return found.fetchall() if found.description else []

    def columns(self, table):
        asked = "select column_name from information_schema.columns where table_name = %s"
        return {name for (name,) in self.query(asked, table)}

    def insert(self, table, *rows):
        """Insert rows, of each the columns that this installation has."""
        known = self.columns(table)
        for row in rows:
            kept = {name: value for name, value in row.items() if name in known}
            names = ", ".join(f'"{name}"' for name in kept)
            values = [
                json.dumps(value) if isinstance(value, dict | list) else value
                for value in kept.values()
            ]
            places = ", ".join(["%s"] * len(values))
            self.query(f'insert into "{table}" ({names}) values ({places})', *values)


def call(number, started, **values):
    """Return a row of SpendLogs as LiteLLM writes it; `started` is UTC, as text without a zone."""
    return {
        "request_id": f"chatcmpl-{number}",
        "call_type": "acompletion",
        "api_key": "0" * 64,
        "cache_hit": "False",
        "cache_key": "Cache OFF",
        "startTime": started,
        "endTime": started,
        "model": "gpt-4o",
        "model_group": "gpt-4o",
        "custom_llm_provider": "openai",
        "user": "default_user_id",
        "metadata": {"status": "success", "usage_object": {"prompt_tokens": 10}},
        "spend": 0.00022500000000000002,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "total_tokens": 30,
        "request_tags": [],
        "status": "success",
        **values,
    }
