"""Logs in a bucket: each hour was listed, each object is read as one, and no key is too odd."""

import asyncio
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import duckdb
import pytest
from airflow.sdk import Connection

from include.chimera.errors import ConfigurationError, SourceChangedError, SourceUnavailableError
from include.chimera.flow.connections import api_logs_root, connection_of
from include.chimera.local.supervision.processes import wait_until
from include.chimera.settings import get_object_store, get_settings
from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import hour_path, log_root, read_lines
from include.chimera.sources.completeness import logs_lack
from include.chimera.sources.stored import stored_buckets
from include.chimera.window import HOUR as ONE_HOUR
from include.chimera.window import floor_hour
from plugins.source_sensor import SourceTrigger
from tests.builders import HOUR, run_of, staged_refusals, staged_rows
from tests.integration.log_places import Bucket, client_of
from tests.integration.object_store import KEY, SECRET, failing

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]
END, TABLE, PLACE = HOUR + ONE_HOUR, "bronze.api_logs", hour_path(HOUR)
ODD = [
    *("a b", "a+b", "a%20b", "%2F", "ü日本", "q?x#y", "quote'\"", "nl\nx", "tab\tx", "esc\x1b"),
    *("a&b=c;d,e", "~t", "<x>", "..a", "*", "[a]", "\u202e"),
]
FOREVER = 1_000_000


def lines(*numbers):
    texts = (json.dumps({"timestamp": HOUR.isoformat(), "path": f"/{n}"}) for n in numbers)
    return "".join(f"{text}\n" for text in texts).encode()


@pytest.fixture
def bucket(object_store):
    """Return a folder of a bucket with an hour's file of lines 0 to 2."""
    found = Bucket(object_store)
    found.put(f"{PLACE}/api.jsonl", lines(0, 1, 2))
    return found


def paths():
    """Return the numbers of the lines that the run staged."""
    rows = duckdb.execute(f"select path from ({staged_rows(run_of(), TABLE)})").fetchall()
    return sorted(int(path[1:]) for (path,) in rows)


def looks(root):
    """Return both that look at an hour: the sensor and the extract."""
    return [lambda: logs_lack(root, END), lambda: extract_api_logs(root, run_of())]


def test_each_page_of_a_listing_is_read(bucket):
    """A store gives at most 1,000 keys in an answer."""
    names = [f"{number:04}.jsonl" for number in range(1_050)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: bucket.put(f"{PLACE}/{name}", b""), names))
    folder = bucket.root.hour(HOUR)
    assert folder.names == [*names, "api.jsonl"]
    assert [file.name for file in folder.files] == [f"{PLACE}/{name}" for name in folder.names]


def test_a_key_of_any_characters_is_read_and_shown_escaped(bucket):
    for number, name in enumerate(ODD, 3):
        bucket.put(f"{PLACE}/{name}.jsonl", lines(number))
    extract_api_logs(bucket.root, run_of())
    assert paths() == list(range(3 + len(ODD)))
    found = duckdb.execute(
        f"select distinct _file from ({staged_rows(run_of(), TABLE)})"
    ).fetchall()
    assert (f"{PLACE}/esc\\u001b.jsonl",) in found
    assert all(file.isprintable() for (file,) in found)


def test_objects_that_stand_for_folders_are_no_logs(bucket, caplog):
    """Consoles make them, empty; a folder that is named as a log is told, as on a disk."""
    for key in (f"{PLACE}/", "dt=2026-01-01/", f"{PLACE}/odd.jsonl/"):
        bucket.put(key, b"")
    extract_api_logs(bucket.root, run_of())
    assert paths() == [0, 1, 2]
    refused = duckdb.execute(f"select reason from ({staged_refusals(run_of(), TABLE)})").fetchall()
    assert refused == [("not_a_regular_file",)]
    assert "odd.jsonl is left out" in caplog.text


def test_an_hour_is_empty_only_below_a_root_that_is_there(object_store, bucket):
    """As a folder that is there, or an object that stands for it."""
    bucket.delete(f"{PLACE}/api.jsonl")
    assert logs_lack(bucket.root, END) == ""
    assert extract_api_logs(bucket.root, run_of()).rows_read == 0
    for look in looks(log_root(f"{bucket.url}-none", bucket.client)):
        with pytest.raises(SourceUnavailableError, match=r"no object.*s3://lake/logs"):
            look()
    assert log_root("s3://lake", client_of(object_store.url)).hour(HOUR).files == []


REFUSALS = {
    "no such bucket": (r"NoSuchBucket.*s3://no-such-bucket/logs/dt=", {}),
    "wrong secret": (
        r"HTTP 403 \(SignatureDoesNotMatch\).*s3://lake",
        {"secret": "wrong"},  # pragma: allowlist secret
    ),
    "unknown key": (r"HTTP 403 \(InvalidAccessKeyId\).*s3://lake", {"key": "unknown"}),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_store_that_refuses_is_told_at_once_and_no_empty_hour(object_store, bucket, fault):
    """No retry brings a bucket or a key."""
    told, keys = REFUSALS[fault]
    url = "s3://no-such-bucket/logs" if fault == "no such bucket" else bucket.url
    for look in looks(log_root(url, client_of(object_store.url, **keys))):
        with pytest.raises(ConfigurationError, match=rf"{told}.*CHIMERA_LOGS_CONNECTION"):
            look()


def test_no_key_at_all_is_told(bucket, object_store, monkeypatch, tmp_path):
    """Neither variables nor a profile nor a role."""
    for name, value in {
        "AWS_ENDPOINT_URL": object_store.url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    get_object_store.cache_clear()
    with pytest.raises(ConfigurationError, match=r"no key \(NoCredentialsError\)"):
        logs_lack(log_root(bucket.url), END)
    get_object_store.cache_clear()


@pytest.mark.parametrize("answer", ["503 SlowDown", "500 InternalError"])
def test_a_store_that_fails_throughout_is_an_outage(object_store, bucket, tmp_path, answer):
    """And one that fails for a moment is asked again."""
    orders = tmp_path / "orders"
    with failing(object_store, orders) as store:
        root = log_root(bucket.url, client_of(store.url))
        orders.write_text(f"{answer} 1")
        assert extract_api_logs(root, run_of()).rows_read == 3
        orders.write_text(f"{answer} {FOREVER}")
        for look in looks(root):
            with pytest.raises(SourceUnavailableError, match=rf"HTTP {answer[:3]}.*s3://lake/logs"):
                look()
    for look in looks(root):
        with pytest.raises(SourceUnavailableError, match=r"no answer.*s3://lake/logs"):
            look()


@pytest.mark.parametrize("name", ["api.jsonl", "api.jsonl.gz"])
def test_an_answer_that_breaks_off_is_asked_for_from_there(
    object_store, tmp_path, monkeypatch, name
):
    """Twice in a row; nothing is doubled."""
    monkeypatch.setattr(stored_buckets, "_PART_BYTES", 2_000)
    bucket, orders, content = Bucket(object_store), tmp_path / "orders", lines(*range(1_000))
    bucket.put(f"{PLACE}/{name}", gzip.compress(content) if name.endswith("gz") else content)
    with failing(object_store, orders) as store:
        (file,) = log_root(bucket.url, client_of(store.url)).hour(HOUR).files
        orders.write_text("cut off 2 GET")
        assert len(list(read_lines(file, is_finished=True))) == 1_000
        assert orders.read_text().split()[2] == "0"


def test_an_upload_under_way_is_not_seen(bucket):
    name = bucket.key(f"{PLACE}/parts.jsonl")
    upload = {**name, "UploadId": bucket.client.create_multipart_upload(**name)["UploadId"]}
    part = bucket.client.upload_part(**upload, PartNumber=1, Body=lines(3))
    extract_api_logs(bucket.root, run_of())
    assert paths() == [0, 1, 2]
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    bucket.client.complete_multipart_upload(**upload, MultipartUpload=parts)
    extract_api_logs(bucket.root, run_of())
    assert paths() == [0, 1, 2, 3]


def begun(bucket, monkeypatch):
    """Begin to read a file of 1,000 lines in many parts; return the rest."""
    monkeypatch.setattr(stored_buckets, "_PART_BYTES", 1_000)
    bucket.put(f"{PLACE}/api.jsonl", lines(*range(1_000)))
    (file,) = bucket.root.hour(HOUR).files
    reading = read_lines(file, is_finished=False)
    next(reading)
    return reading


@pytest.mark.parametrize("how", ["replaced", "cut short", "removed"])
def test_an_object_that_changes_while_it_is_read_is_never_mixed(bucket, monkeypatch, how):
    """Each later part is asked for with the first one's ETag."""
    reading = begun(bucket, monkeypatch)
    if how == "removed":
        bucket.delete(f"{PLACE}/api.jsonl")
    else:
        bucket.put(f"{PLACE}/api.jsonl", lines(7) if how == "cut short" else lines(*range(2_000)))
    with pytest.raises(SourceChangedError, match="removed or replaced"):
        list(reading)


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_bucket_with_versions_gives_the_rest_of_the_one_that_was_begun(
    object_store, monkeypatch, how
):
    client, name = client_of(object_store.url), f"versions-{uuid4().hex}"
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    bucket, readings = Bucket(object_store, name), []

    def is_kept():
        readings.append(begun(bucket, monkeypatch))
        return "VersionId" in client.head_object(**bucket.key(f"{PLACE}/api.jsonl"))

    # The server's S3 side learns of versions a moment later, and may forget them once more.
    assert wait_until(is_kept, 10, 0.05)
    if how == "removed":
        bucket.delete(f"{PLACE}/api.jsonl")
    else:
        bucket.put(f"{PLACE}/api.jsonl", lines(7))
    assert len(list(readings[-1])) == 999


def test_a_finished_hour_whose_objects_change_is_read_again(bucket, monkeypatch):
    """Replaced after it was listed, and once more after it was read."""
    opened, contents = stored_buckets.BucketFile.opened, [lines(*range(5)), lines(*range(9))]

    def changing(file):
        if contents:
            bucket.put(f"{PLACE}/api.jsonl", contents.pop(0))
        return opened(file)

    monkeypatch.setattr(stored_buckets.BucketFile, "opened", changing)
    extract_api_logs(bucket.root, run_of())
    assert paths() == list(range(9))


def test_an_object_that_grew_after_the_listing_is_read_to_its_new_end(bucket):
    """As a file that grows is: its hour is read again while it may grow."""
    (file,) = bucket.root.hour(HOUR).files
    bucket.put(f"{PLACE}/api.jsonl", lines(*range(9)))
    assert len(list(read_lines(file, is_finished=False))) == 9
    bucket.put(f"{PLACE}/api.jsonl", b"")
    assert list(read_lines(file, is_finished=False)) == []
    bucket.delete(f"{PLACE}/api.jsonl")
    with pytest.raises(SourceChangedError, match="removed"):
        list(read_lines(file, is_finished=False))


def test_a_bucket_is_complete_once_it_is_quiet_or_its_writer_says_so(object_store):
    """Objects of the last hour that were written just now may be replaced by longer ones."""
    bucket, end = Bucket(object_store), floor_hour(datetime.now(UTC)) - ONE_HOUR
    assert logs_lack(bucket.root, end) == ""
    bucket.put(f"{hour_path(end - ONE_HOUR)}/api.jsonl", b"")
    assert "no _SUCCESS, 1 files, quiet for" in logs_lack(bucket.root, end)
    bucket.put(f"{hour_path(end - ONE_HOUR)}/_SUCCESS", b"")
    assert logs_lack(bucket.root, end) == ""


def test_the_sensor_waits_for_a_bucket_in_the_triggerer(object_store, bucket, monkeypatch):
    """Which looks up the connection in its own way; what is wrong there is told with the place."""
    connection = {
        "conn_type": "aws",
        "login": KEY,
        "password": SECRET,
        "extra": {"endpoint_url": object_store.url},
    }
    monkeypatch.setenv("AIRFLOW_CONN_LOGS_STORE", json.dumps(connection))
    monkeypatch.setenv("CHIMERA_LOGS_CONNECTION", "logs_store")

    def outcome(url):
        monkeypatch.setenv("CHIMERA_API_LOGS_ROOT", url)
        get_settings.cache_clear()
        trigger = SourceTrigger("api_logs", END, datetime.now(UTC), 0.01)

        async def first():
            return await anext(aiter(trigger.run()))

        return asyncio.run(first()).payload

    assert "1 files, quiet for" in outcome(bucket.url)
    bucket.put(f"{PLACE}/_SUCCESS", b"")
    assert outcome(bucket.url) == ""
    _, came, where, _ = outcome("s3://no-such-bucket/logs")
    assert (came, "no-such-bucket" in where) == ("HTTP 404 (NoSuchBucket)", True)


def test_the_logs_have_a_connection_of_their_own(object_store, bucket, monkeypatch):
    """Its store, not the one that the `AWS_…` variables of the lake lead to."""
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "lake",
        "AWS_SECRET_ACCESS_KEY": "lake",  # pragma: allowlist secret
        "CHIMERA_API_LOGS_ROOT": bucket.url,
        "CHIMERA_STORE_CONNECTION": "lake_store",
    }.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    assert connection_of("api_logs") == "lake_store"
    monkeypatch.setenv("CHIMERA_LOGS_CONNECTION", "logs_store")
    get_settings.cache_clear()
    assert connection_of("api_logs") == "logs_store"
    extra = {"endpoint_url": object_store.url, "region_name": "us-east-1"}
    keys = {"conn_id": "logs_store", "conn_type": "aws", "login": KEY, "password": SECRET}
    extract_api_logs(api_logs_root(Connection(**keys, extra=json.dumps(extra))), run_of())
    assert paths() == [0, 1, 2]
    client = api_logs_root(Connection(**keys)).root.client
    assert client.meta.endpoint_url.endswith(".amazonaws.com")
    monkeypatch.setenv("CHIMERA_API_LOGS_ROOT", "/var/log")
    get_settings.cache_clear()
    assert connection_of("api_logs") == ""
