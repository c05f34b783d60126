"""What may stand in the logs' folder: an hour is empty only if its place was listed, a file is read
once whatever names it has, and nothing hangs or leads out of the root."""

import ctypes
import gzip
import json
import os
import socket
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from include.chimera.errors import ConfigurationError, SourceUnavailableError
from include.chimera.settings import get_settings
from include.chimera.sources.api_logs import extract
from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import hour_path, log_root
from include.chimera.sources.completeness import logs_lack
from include.chimera.sources.stored.stored_files import shown
from include.chimera.window import HOUR as ONE_HOUR
from tests.builders import HOUR, run_of, staged_refusals, staged_rows

pytestmark = pytest.mark.integration
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
TABLE, END = "bronze.api_logs", HOUR + ONE_HOUR


def lines(*numbers):
    texts = (json.dumps({"timestamp": HOUR.isoformat(), "path": f"/{n}"}) for n in numbers)
    return "".join(f"{text}\n" for text in texts).encode()


@pytest.fixture
def folder(monkeypatch):
    """Return an hour's folder with a file of lines 0 to 2."""
    with tempfile.TemporaryDirectory() as place:
        monkeypatch.setenv("CHIMERA_STATE_DIR", f"{place}/state")
        get_settings.cache_clear()
        found = Path(place) / "logs" / hour_path(HOUR)
        found.mkdir(parents=True)
        Path(place, "state").mkdir()
        (found / "api.jsonl").write_bytes(lines(0, 1, 2))
        os.utime(found / "api.jsonl", (END.timestamp(), END.timestamp()))
        yield found
        # So that an owner who is not root may remove what the test locked.
        for path in (found.parents[1], found.parent, found, found / "api.jsonl"):
            if path.exists():
                path.chmod(0o755)
    get_settings.cache_clear()


@contextmanager
def bound_by_modes():
    """Read as a root that is subject to file modes like any other owner (capabilities(7))."""
    if os.geteuid():
        yield
        return
    version, ourselves = 0x20080522, 0
    header = (ctypes.c_uint32 * 2)(version, ourselves)
    held, dropped = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()  # effective ones come first
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, held) == 0
    dropped[:] = held
    dropped[0] &= ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    assert libc.capset(header, dropped) == 0
    try:
        yield
    finally:
        assert libc.capset(header, held) == 0


def root_of(folder):
    return log_root(str(folder.parents[1]))


def paths():
    """Return the numbers of the lines that the run staged."""
    rows = duckdb.execute(f"select path from ({staged_rows(run_of(), TABLE)})").fetchall()
    return sorted(int(path[1:]) for (path,) in rows)


def refusals():
    """Return reason and coordinates of what the run refused."""
    query = f"select reason, coordinates from ({staged_refusals(run_of(), TABLE)}) order by all"
    return [(reason, json.loads(where)) for reason, where in duckdb.execute(query).fetchall()]


LOCKED = {
    "root": lambda folder: folder.parents[1],
    "day": lambda folder: folder.parent,
    "hour": lambda folder: folder,
    "file": lambda folder: folder / "api.jsonl",
}


@pytest.mark.parametrize("mode", [0o311, 0o000])
@pytest.mark.parametrize("part", LOCKED)
def test_what_may_not_be_listed_or_read_is_named_and_no_empty_hour(folder, part, mode):
    """By the sensor and by the extract; a folder that may be passed need not be listable."""
    place = LOCKED[part](folder)
    with bound_by_modes():
        place.chmod(mode)
        if mode == 0o311 and part in ("root", "day"):
            assert logs_lack(root_of(folder), END) == ""
            return
        with pytest.raises(SourceUnavailableError, match=f"Permission denied.*{place.name}"):
            logs_lack(root_of(folder), END)
        with pytest.raises(SourceUnavailableError, match=f"Permission denied.*{place.name}"):
            extract_api_logs(root_of(folder), run_of())


@pytest.mark.parametrize("part", ["root", "day"])
def test_a_missing_folder_is_an_empty_hour_only_below_one_that_was_listed(folder, part):
    """A folder that may be passed but not listed does not prove that the next one is missing."""
    (folder / "api.jsonl").unlink()
    folder.rmdir()
    assert logs_lack(root_of(folder), END) == ""
    assert extract_api_logs(root_of(folder), run_of()).rows_read == 0
    place = LOCKED[part](folder)
    if part == "root":
        folder.parent.rmdir()
    with bound_by_modes():
        place.chmod(0o311)
        for look in (logs_lack, lambda root, _: extract_api_logs(root, run_of())):
            with pytest.raises(SourceUnavailableError, match=place.name):
                look(root_of(folder), END)


MAKE = {
    "a dangling link": lambda path: path.symlink_to(path.with_name("not-mounted")),
    "a file": Path.touch,
    "nothing": Path.exists,
}


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("part", ["root", "day", "hour"])
def test_a_folder_that_is_none_is_named(folder, part, make):
    """A dangling link, a file; for the root, also a missing folder."""
    place = LOCKED[part](folder)
    place.rename(folder.parents[2] / "elsewhere")
    MAKE[make](place)
    if part != "root" and not os.path.lexists(place):
        assert logs_lack(root_of(folder), END) == ""
        return
    for look in (logs_lack, lambda root, _: extract_api_logs(root, run_of())):
        with pytest.raises(SourceUnavailableError, match=place.name):
            look(root_of(folder), END)


@pytest.mark.parametrize("root", ["gs://bucket/logs", "s3:///logs", "file:///var/log"])
def test_a_root_that_is_another_url_is_a_wrong_setting(root):
    with pytest.raises(ConfigurationError, match="CHIMERA_API_LOGS_ROOT"):
        log_root(root)


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("name", ["a.jsonl", "current.jsonl", "z.jsonl.1"])
def test_a_file_with_two_names_is_read_once_under_its_own(folder, link, name):
    """Shippers keep a link `current`; lines are named by the link's target."""
    link(folder / "api.jsonl", folder / name)
    assert extract_api_logs(root_of(folder), run_of()).rows_read == 3
    assert paths() == [0, 1, 2]
    if link is os.symlink:
        ((file,),) = duckdb.execute(
            f"select distinct _file from ({staged_rows(run_of(), TABLE)})"
        ).fetchall()
        assert file.endswith("/api.jsonl")


def test_a_link_below_the_root_is_its_target(folder):
    """Even if the target is in no hour's folder, or compressed in another hour's."""
    place = folder.parents[1] / "app"
    place.mkdir()
    (place / "live.log").write_bytes(lines(7))
    (folder / "live.jsonl").symlink_to(place / "live.log")
    (place / "packed.gz").write_bytes(gzip.compress(lines(8)))
    (folder / "packed.jsonl").symlink_to(place / "packed.gz")
    extract_api_logs(root_of(folder), run_of())
    assert paths() == [0, 1, 2, 7, 8]


@contextmanager
def planted(folder, kind):
    """Put something other than a log among the logs."""
    path = folder / "planted.jsonl"
    outside = folder.parents[2] / "secret.jsonl"
    outside.write_bytes(lines(99))
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "socket":
            server.bind(str(path))
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "link out":
            path.symlink_to(outside)
        elif kind == "link to a link out":
            (folder / "hop").symlink_to(outside)
            path.symlink_to(folder / "hop")
        yield


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("fifo", "not_a_regular_file"),
        ("folder", "not_a_regular_file"),
        ("socket", "not_a_regular_file"),
        ("device", "link_leaves_root"),
        ("link out", "link_leaves_root"),
        ("link to a link out", "link_leaves_root"),
    ],
)
def test_what_is_no_file_of_the_logs_is_named_and_left_out(folder, kind, reason, caplog):
    """It is not opened: a pipe would hang, a device never end, a link might lead elsewhere."""
    with planted(folder, kind):
        assert logs_lack(root_of(folder), END) == ""
        extract_api_logs(root_of(folder), run_of())
    assert paths() == [0, 1, 2]
    ((found, where),) = refusals()
    assert (found, where["file"].rpartition("/")[2]) == (reason, "planted.jsonl")
    assert "planted.jsonl is left out" in caplog.text


def test_a_folder_that_leads_out_of_the_root_is_refused(folder):
    """A link must not make us read elsewhere; nor is its hour empty."""
    away = folder.parents[2] / "away"
    folder.rename(away)
    folder.symlink_to(away)
    for look in (logs_lack, lambda root, _: extract_api_logs(root, run_of())):
        with pytest.raises(SourceUnavailableError, match="link that leaves"):
            look(root_of(folder), END)


def test_a_root_that_is_a_link_itself_is_followed(folder):
    """It is a setting."""
    link = folder.parents[2] / "link"
    link.symlink_to(folder.parents[1])
    extract_api_logs(log_root(str(link)), run_of())
    assert paths() == [0, 1, 2]


def rotate(folder):
    """Rename as logrotate does, the oldest first, and begin a new file."""
    for number in range(3, 0, -1):
        if (old := folder / f"api.jsonl.{number}").exists():
            old.rename(folder / f"api.jsonl.{number + 1}")
    (folder / "api.jsonl").rename(folder / "api.jsonl.1")
    (folder / "api.jsonl").write_bytes(b"")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_rotation_in_the_middle_of_a_reading_doubles_and_loses_nothing(
    folder, after, monkeypatch
):
    """Ten lines in the live file, four in the one before, renamed after some of the files."""
    (folder / "api.jsonl").write_bytes(lines(*range(10)))
    (folder / "api.jsonl.1").write_bytes(lines(*range(10, 14)))
    read, seen = extract.read_lines, []

    def reading(*file, **how):
        if len(seen) == after:
            rotate(folder)
        seen.append(file)
        yield from read(*file, **how)
        if len(seen) == after == 2:
            rotate(folder)

    monkeypatch.setattr(extract, "read_lines", reading)
    extract_api_logs(root_of(folder), run_of())
    assert paths() == list(range(14))


def test_files_that_are_rotated_all_the_time_are_read_whole_or_not_at_all(folder):
    """Real renames during real reads give fourteen lines or an error, never another number."""
    stop = threading.Event()
    (folder / "api.jsonl").write_bytes(lines(*range(10)))
    (folder / "api.jsonl.1").write_bytes(lines(*range(10, 14)))

    def rotating():
        names = [folder / name for name in ("api.jsonl", "api.jsonl.1", "api.jsonl.2")]
        while not stop.is_set():
            for old, new in ((1, 2), (0, 1), (2, 0)):
                names[old].rename(names[new])

    thread = threading.Thread(target=rotating)
    thread.start()
    try:
        for _ in range(5):
            try:
                extract_api_logs(root_of(folder), run_of())
            except SourceUnavailableError:
                continue
            assert paths() == list(range(14))
    finally:
        stop.set()
        thread.join()


def test_a_name_that_is_no_text_is_shown_escaped_and_its_file_read(folder):
    """Rows, letters and messages name it; other files are read as usual."""
    odd = os.fsencode(folder) + b"/caf\xe9\x1b.jsonl"
    Path(os.fsdecode(odd)).write_bytes(lines(5) + b"no json\n")
    extract_api_logs(root_of(folder), run_of())
    assert paths() == [0, 1, 2, 5]
    files = duckdb.execute(f"select _file from ({staged_rows(run_of(), TABLE)})").fetchall()
    name = r"dt=2026-01-01/hour=05/caf\xe9\u001b.jsonl"
    assert (name,) in files
    assert [where["file"] for _, where in refusals()] == [name]


def test_names_that_differ_are_shown_differently():
    names = ["a", "a\\", "\\xff", "\udcff", "ÿ", "\x85", "\udc85", "\\u0085", "日本", "\n", "\\n"]
    assert len({shown(name) for name in names}) == len(names)
    assert all(shown(name).isprintable() for name in names)
