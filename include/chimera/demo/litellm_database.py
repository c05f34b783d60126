"""The sample application's calls as LiteLLM would have logged them, in LiteLLM's own tables."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from include.chimera.errors import ConfigurationError

PROFILE = "litellm"
_MIGRATIONS, _ROWS = "litellm_proxy_extras", Path(__file__).with_name("litellm.sql")


def fill_litellm(app_db_uri: str) -> None:
    """Make LiteLLM's tables by its own migrations, if there are none, and add the rows they lack.

    Args:
        app_db_uri: libpq URI of the sample application's database.

    Raises:
        ConfigurationError: LiteLLM's migrations are not installed, as outside of `make`'s .venv.
    """
    import psycopg  # noqa: PLC0415 - among the development packages

    # No transaction around them all: an index is made concurrently.
    with psycopg.connect(app_db_uri, autocommit=True) as session:
        known = session.execute("select to_regclass('\"LiteLLM_SpendLogs\"')").fetchone()
        if known is None or known[0] is None:
            for migration in sorted(_migrations().glob("*/migration.sql")):
                session.execute(migration.read_bytes())
        session.execute(_ROWS.read_bytes())


def _migrations() -> Path:
    found = find_spec(_MIGRATIONS)
    if found is None or found.origin is None:
        raise ConfigurationError(
            expected="the package litellm-proxy-extras, whose migrations make LiteLLM's tables",
            came="none",
            where="this Python's packages",
            remedy="use make, or set AIRFLOW_CONN_APP_DB to a database of LiteLLM's",
        )
    return Path(found.origin).parent / "migrations"
