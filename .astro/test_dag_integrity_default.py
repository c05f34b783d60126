"""Each file in dags/ imports, without services, connections or variables.

`astro dev parse` and `astro deploy --parse` run this file. It stands in for the one that astro
scaffolds, which may ask DagBag for `include_examples`: Airflow 3.3 no longer knows that argument.
The contract is the same: unset environment variables read `MOCKED_<NAME>_VALUE` through `os.getenv`
unless the caller gives a default, connections are empty, Airflow variables are mocked.
"""

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
DAGS = PROJECT / "dags"
EXCEPTIONS = Path(__file__).with_name("dag_integrity_exceptions.txt")
NOT_GIVEN = object()

# The container that runs this has no say in the warnings of Airflow's own imports.
pytestmark = pytest.mark.filterwarnings("default")


def dag_files():
    """List what may define a DAG, relative to the project."""
    return sorted(str(path.relative_to(PROJECT)) for path in DAGS.rglob("*.py"))


def tolerated():
    """Read the files that are allowed to fail."""
    lines = EXCEPTIONS.read_text().splitlines() if EXCEPTIONS.exists() else []
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def mocked_getenv(key, default=None):
    """Stand in for `os.getenv` while DAG files are imported."""
    if os.environ.get(key):
        return os.environ[key]
    if default is not None or key in {"JENKINS_HOME", "PYTEST_THEME"}:
        return default
    return f"MOCKED_{key.upper()}_VALUE"


def mocked_variable(key, default=NOT_GIVEN, deserialize_json=False, default_var=NOT_GIVEN):
    """Stand in for `Variable.get`, of the SDK (`default`) and of the models (`default_var`)."""
    for given in (default, default_var):
        if given is not NOT_GIVEN:
            return given
    return {} if deserialize_json else f"MOCKED_{key.upper()}_VALUE"


@pytest.fixture(scope="session")
def dag_bag():
    """Import dags/ once, with the outside world mocked."""
    from airflow import models, sdk
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk.bases.hook import BaseHook

    empty_connection = staticmethod(lambda conn_id: sdk.Connection(conn_id=conn_id))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getenv", mocked_getenv)
        patch.setattr(BaseHook, "get_connection", empty_connection)
        patch.setattr(sdk.Connection, "get", empty_connection)
        patch.setattr(sdk.Variable, "get", staticmethod(mocked_variable))
        patch.setattr(models.Variable, "get", staticmethod(mocked_variable))
        yield DagBag(dag_folder=DAGS, bundle_path=DAGS, bundle_name="dags-folder")


@pytest.mark.parametrize("file", dag_files())
def test_file_imports(file, dag_bag):
    """A file that does not import is a DAG that silently never runs."""
    errors = {
        str(Path(DAGS, path).resolve().relative_to(PROJECT)): error.strip()
        for path, error in dag_bag.import_errors.items()
    }
    if file in errors and file not in tolerated():
        pytest.fail(f"{file} does not import:\n{errors[file]}", pytrace=False)


def test_dags_are_found(dag_bag):
    """An empty folder must not pass for a healthy one."""
    assert dag_bag.dags, f"no DAG in {DAGS}"
