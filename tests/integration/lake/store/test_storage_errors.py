"""Faults of a table or its storage have the right class; only temporary ones are retried.

Each fault is really produced, because the libraries' messages change with their versions.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import duckdb
import pytest
from deltalake import DeltaTable

from include.chimera.errors import (
    ChimeraError,
    ConversionError,
    DeltaRefusedError,
    GateOutageError,
    LakeError,
    LogDamagedError,
    MemoryExhaustedError,
    ProtocolUnsupportedError,
    RetryableError,
    StorageAwayError,
    StorageRefusedError,
)
from include.chimera.lake.delta.commits import Change, commit
from include.chimera.lake.delta.partitions import Whole
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import begin_table, open_table, table_names
from include.chimera.lake.store import storage
from include.chimera.lake.store.cast_errors import failing_column
from include.chimera.lake.store.storage_errors import classify, storage_errors, translate
from include.chimera.quality.gate import judging
from tests.integration.lake.store.damages import CANARY, CHECKPOINT_DAMAGES, DAMAGES, make, protocol

pytestmark = pytest.mark.integration


def read(connection: duckdb.DuckDBPyConnection, name: str = "dev.orders") -> list[tuple]:
    """Read a table as everything here does: its log by delta-rs, its rows by DuckDB."""
    with storage_errors(f"reading {name}"):
        table = open_table(name, has_files=False)
        assert table is not None
        return connection.execute(scan(table, name)).fetchall()


@pytest.mark.usefixtures("damaged")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_table_is_told_as_what_it_is(lake, connection, damage):
    """The class decides what is done about it; the text names the fault, and no row."""
    harm, kind, words = DAMAGES[damage]
    table = make(lake)
    assert len(read(connection)) == 3
    harm(table)
    with pytest.raises(kind, match=words) as told:
        read(connection)
    assert kind.helps in str(told.value)
    assert CANARY not in str(told.value)
    assert isinstance(told.value, RetryableError) is (kind is StorageAwayError)


@pytest.mark.usefixtures("damaged")
@pytest.mark.parametrize("damage", CHECKPOINT_DAMAGES)
def test_a_bad_checkpoint_is_a_damaged_log(lake, connection, damage):
    CHECKPOINT_DAMAGES[damage](make(lake, has_checkpoint=True))
    with pytest.raises(LogDamagedError, match="a damaged log"):
        read(connection)
    assert table_names() == ["dev.orders"]


@pytest.mark.usefixtures("damaged")
@pytest.mark.parametrize("damage", [d for d in DAMAGES if d not in {"another folder", "a file"}])
def test_a_bad_table_stays_in_the_list_of_tables(lake, damage):
    """Otherwise a new table would be made over it."""
    DAMAGES[damage][0](make(lake))
    assert table_names() == ["dev.orders"]


@pytest.mark.usefixtures("damaged")
def test_what_a_killed_first_build_left_is_no_table_yet(lake):
    """It left staged files without a log, or with an empty one: it is built again."""
    folder = lake / "dev" / "orders"
    begin_table("dev.orders")
    (folder / "_delta_log").mkdir(parents=True)
    (folder / "part-0a3d9a2b-6a51-4f7d-9d0a-0123456789ab.parquet").write_bytes(b"rows")
    (folder / "_delta_log" / "_commit_1.json.tmp").write_bytes(b"")
    assert open_table("dev.orders") is None


def test_a_first_commit_of_another_between_two_looks_is_no_damage(lake, monkeypatch):
    """Two first hours at once: the table is made after one looked for it and before it listed."""
    walk = storage.walk

    def overtaken(place, **kwargs):
        if place.endswith("/orders") and not (lake / "dev" / "orders" / "_delta_log").exists():
            make(lake)
        return walk(place, **kwargs)

    monkeypatch.setattr(storage, "walk", overtaken)
    table = open_table("dev.orders")
    assert table is not None
    assert table.version() == 2


def test_a_version_that_a_table_never_had_is_not_there(lake):
    make(lake)
    assert open_table("dev.orders", 7) is None
    assert open_table("dev.orders", 1).version() == 1


def as_another_user(work) -> str:
    """Run work as a user without rights, in a process of its own; return what it wrote."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            work()
        except BaseException as error:  # noqa: BLE001 - told to the parent
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as said:
        return said.read()


@pytest.fixture
def private(lake, tmp_path):
    """Return a table whose parents may be entered by anyone."""
    table = make(lake)
    for folder in tmp_path.parents:
        if os.access(folder, os.W_OK) and folder.owner() == Path.home().owner():
            folder.chmod(folder.stat().st_mode | 0o011) if folder != Path("/") else None
    return table


@pytest.mark.parametrize("locked", ["orders/_delta_log", "orders", ""])
def test_a_folder_that_may_not_be_entered_is_no_missing_table(private, tmp_path, locked):
    """delta-rs reports that there is no table, and a build would make a new one."""
    tmp_path.chmod(0o755)
    folder = private.parent / locked
    folder.chmod(0o700)
    said = as_another_user(lambda: open_table("dev.orders"))
    assert said.startswith("StorageRefusedError")
    assert "Permission denied" in said


CODES = {
    errno.ENOSPC: StorageRefusedError,
    errno.EDQUOT: StorageRefusedError,
    errno.EFBIG: StorageRefusedError,
    errno.EROFS: StorageRefusedError,
    errno.EACCES: StorageRefusedError,
    errno.ENOENT: StorageAwayError,
    errno.EIO: StorageAwayError,
    errno.ESTALE: StorageAwayError,
    errno.ENOTCONN: StorageAwayError,
    errno.ETIMEDOUT: StorageAwayError,
}


@pytest.mark.parametrize("code", CODES)
def test_the_systems_error_numbers_decide(code):
    """Even if a library has the number only in its text, as delta-rs and DuckDB do."""
    text = os.strerror(code)
    for error in (
        OSError(code, text),
        OSError(f"Kernel error -> Generic LocalFileSystem error ↳ {text} (os error {code})\n"),
        duckdb.IOException(f'IO Error: Could not write file "/connect/{CANARY}": {text}'),
    ):
        kind, came = classify(error)
        assert kind is CODES[code]
        assert CANARY not in came


def test_another_librarys_number_is_not_the_systems():
    """28 is no space left for the system, and a timeout for curl, by which pyarrow asks S3."""
    text = "AWS Error NETWORK_CONNECTION during UploadPart operation: curlCode: 28, Timeout"
    assert classify(OSError(text)) == (StorageAwayError, "no answer")


@pytest.mark.usefixtures("damaged")
def test_a_table_named_like_an_engines_phrase_is_told_as_what_it_is(lake, connection):
    """A path in a message does not count as the engine's words."""
    name = "checkpoint connection Unsupported"
    (make(lake, name) / "_delta_log" / f"{1:020d}.json").unlink()
    with pytest.raises(LogDamagedError, match="versions are missing"):
        read(connection, f"dev.{name}")


def test_memory_that_is_used_up_is_told_with_its_settings():
    """It is not the disk's fault; it is retried, because other processes may free memory."""
    small = {"memory_limit": "20MB", "temp_directory": ""}
    told = pytest.raises(MemoryExhaustedError, match="CHIMERA_DUCKDB_MEMORY_LIMIT")
    with duckdb.connect(config=small) as connection, told, storage_errors("dev.model"):
        connection.execute("select distinct md5(i::text) from range(3000000) t(i)")


CASTS = {
    "select cast(a as int) from t": "a value of VARCHAR that is no INTEGER in column a",
    "select a::date from t": "VARCHAR that is no DATE in column a",
    "select a::int[] from t": r"VARCHAR that is no INTEGER\[\] in column a",
    "select a::decimal(5, 2) from t": r"VARCHAR that is no DECIMAL\(5,2\) in column a",
    "select a::uuid from t": "no HUGEINT or UUID in column a",
    "select a::json from t": "no JSON in column a",
    "select\n(a || 'x')::boolean from t": "no BOOLEAN, line 2 of its statement",
    "select (i + 4711)::tinyint from t": "a value of BIGINT that is no TINYINT",
    "select 9223372036854775807 + i from t": "a value beyond BIGINT",
    "select strptime(a, '%Y') from t": "a function refused a value",
    "select error(a || ' when casting from source column ' || a) from t": "refused a value",
    "select now() at time zone a from t": "a function refused a value",
    "insert into keyed select a, 1 from t": "breaks a PRIMARY KEY or UNIQUE constraint",
    "insert into keyed select 'x', null from t": "breaks a NOT NULL constraint of column n",
    "insert into keyed select a || i, -4711 from t": "breaks a CHECK constraint",
    "select * from read_csv(getvariable('file'), columns = {'id': 'int', 'total': 'int'})":
        "a value of VARCHAR that is no INTEGER in column total",
}  # fmt: skip


@pytest.mark.parametrize("value", [
    CANARY, f"\x1b[2J{CANARY}", f"' to {CANARY} when casting from source column {CANARY}",
    f"{CANARY}\n\nLINE 1: {CANARY}", f"Column {CANARY} is being converted as type {CANARY}",
])  # fmt: skip
@pytest.mark.parametrize("statement", CASTS)
def test_a_value_that_does_not_fit_is_told_by_column_and_types(tmp_path, statement, value):
    """Whatever the value holds, even DuckDB's own phrases, the error quotes no part of it."""
    (tmp_path / "rows.csv").write_text(f'id,total\n1,"{value}"\n')
    with duckdb.connect() as connection:
        connection.execute("create table t as select ? as a, i from range(1, 3) as r(i)", [value])
        connection.execute("create table keyed (a text primary key, n int not null check (n > 0))")
        connection.execute("set variable file = ?", [str(tmp_path / "rows.csv")])
        expected = pytest.raises(ConversionError, match=CASTS[statement])
        with expected as told, storage_errors("dev.model"):
            connection.execute(statement).fetchall()
    assert "canary" not in str(told.value)
    assert "4711" not in str(told.value)
    assert str(told.value).isprintable()


def test_the_column_that_can_not_be_computed_is_found(connection):
    """If DuckDB does not name it, the columns are tried one by one."""
    query = "select 1 as one, (md5('a') || 'b')::date as born, 2 as two from range(3)"
    assert failing_column(connection, query) == "born"
    assert failing_column(connection, "select 1 as one") is None


def test_mistakes_in_sql_stay_duckdbs(connection):
    """They name tables, columns and places in the SQL, which its author needs."""
    for statement in ("selec 1", "select nope from range(3)", "from nowhere"):
        with pytest.raises(duckdb.Error) as error:
            connection.execute(statement)
        assert translate(error.value, "dev.model") is None


def test_the_six_classes_have_six_remedies_and_one_is_retried():
    kinds = LakeError.__subclasses__()
    assert len(kinds) == len({kind.helps for kind in kinds}) == 6
    assert [kind for kind in kinds if issubclass(kind, RetryableError)] == [StorageAwayError]
    assert all(issubclass(kind, ChimeraError) for kind in kinds)


def test_an_outage_while_rows_are_fetched_is_no_fault_of_the_rows(tmp_path):
    """DuckDB then reports everything as invalid input; the underlying class counts."""
    error = duckdb.InvalidInputException(
        "Invalid Input Error: Attempting to execute an unsuccessful or closed pending query "
        f'result\nError: IO Error: Cannot open file "{tmp_path}": No such file or directory'
    )
    for translating in (judging("bronze.generations"), storage_errors("dev.model")):
        with pytest.raises(StorageAwayError), translating:
            raise error


@pytest.mark.parametrize("code", CODES)
def test_a_gate_tells_storage_that_is_away_from_storage_that_is_full_or_forbidden(code):
    """No retry makes space or gives a permission back."""
    for error in (
        OSError(code, os.strerror(code)),
        duckdb.IOException(f'IO Error: Could not write file "/spill/x": {os.strerror(code)}'),
    ):
        with pytest.raises(CODES[code]), judging("bronze.generations"):
            raise error


def test_a_gate_whose_session_was_stopped_is_tried_again():
    """That tells nothing about the rows or the storage."""
    error = duckdb.InterruptException("INTERRUPT Error: Interrupted!")
    with pytest.raises(GateOutageError, match="InterruptException"), judging("dev.orders"):
        raise error


@pytest.mark.parametrize("asked", ["icebergCompatV1", "somethingNew"])
def test_a_table_that_asks_for_more_of_its_writers_is_told_at_once(lake, asked):
    """It is not a conflict: no other writer was first, and the eighth attempt would fail too."""
    protocol(make(lake), minReaderVersion=1, minWriterVersion=7, writerFeatures=[asked])
    attempts = []

    def decide(table):
        attempts.append(table.version())
        return Change(marks={"mine": 1})

    with pytest.raises(ProtocolUnsupportedError, match=r"committing to dev\.orders"):
        commit("dev.orders", lambda: open_table("dev.orders"), decide)
    assert attempts == [2]


def test_a_table_that_takes_no_removal_is_told_at_once(lake):
    """Its owner made it append-only: it is not a conflict with another writer."""
    table = make(lake)
    DeltaTable(str(table)).alter.set_table_properties({"delta.appendOnly": "true"})
    attempts = []

    def decide(table):
        attempts.append(table.version())
        return Change(replace=Whole())

    with pytest.raises(DeltaRefusedError, match=r"committing to dev\.orders"):
        commit("dev.orders", lambda: open_table("dev.orders"), decide)
    assert attempts == [3]
