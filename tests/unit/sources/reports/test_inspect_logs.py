"""Logs of inspect: what is neither right nor wrong is kept apart, with its score."""

import io
import json
import struct
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from include.chimera.sources.reports.evaluations import FileFault
from include.chimera.sources.reports.inspect_logs import score_of
from tests.reading import evaluations, found

EVAL = {
    "eval_id": "e1",
    "run_id": "run",
    "task": "popularity",
    "model": "openai/gpt-4o-mini",
    "created": "2026-02-01T10:00:00-05:00",
    "packages": {"inspect_ai": "0.3.133"},
}


def inspect_log(samples: list[dict[str, object]], **columns: object) -> dict[str, object]:
    """Return a log of inspect."""
    return {"version": 2, "status": "success", "eval": EVAL, "samples": samples, **columns}


def archive(log: dict[str, object]) -> bytes:
    """Return a log in the form of `.eval`."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("_journal/start.json", "{}")
        for index, sample in enumerate(log.pop("samples")):  # type: ignore[arg-type, var-annotated]
            file.writestr(f"samples/{index}_epoch_1.json", json.dumps(sample))
        file.writestr("header.json", json.dumps(log))
    return target.getvalue()


SAMPLES = [
    {"id": 1, "epoch": 1, "uuid": "a", "scores": {"match": {"value": "C"}}},
    {"id": 2, "epoch": 1, "uuid": "b", "scores": {"match": {"value": "I"}}},
    {"id": 3, "epoch": 1, "uuid": "c", "scores": {"match": {"value": "N"}}},
    {"id": 4, "epoch": 1, "uuid": "d", "scores": {"match": {"value": "P"}}},
    {"id": 5, "epoch": 1, "uuid": "e", "scores": {}, "error": {"message": "text"}},
    {"id": 6, "epoch": 1, "uuid": "f", "scores": {}},
    {"id": 7, "epoch": 1, "uuid": "g", "scores": {"match": {"value": "C"}}, "invalidation": {}},
]


@pytest.mark.parametrize("form", ["json", "eval"])
def test_inspect_keeps_what_is_neither_right_nor_wrong_apart(tmp_path: Path, form: str) -> None:
    """No answer and half an answer have inspect's score, and count for neither side."""
    log = inspect_log(SAMPLES)
    content = json.dumps(log).encode() if form == "json" else archive(log)
    rows = evaluations(found(tmp_path, content))
    assert [(row.successes, row.passes, row.errors, row.undetermined) for row in rows] == [
        (0, 1, 0, 0),
        (1, 0, 0, 0),
        (None, None, 0, 1),
        (None, None, 0, 1),
        (None, None, 1, 0),
        (None, None, 0, 1),
        (None, None, 0, 1),
    ]
    assert [row.score for row in rows] == [1.0, 0.0, 0.0, 0.5, None, None, None]
    assert {row.created_at for row in rows} == {datetime(2026, 2, 1, 15, tzinfo=UTC)}


def test_inspect_tokens_stand_on_one_row_of_a_sample(tmp_path: Path) -> None:
    """Two scorers judge one sample: its tokens were used once."""
    usage = {"openai/gpt-4o-mini": {"input_tokens": 10, "output_tokens": 4}}
    scores = {"match": {"value": "C"}, "grade": {"value": {"a": 1, "b": 0.25}}}
    rows = evaluations(
        found(
            tmp_path,
            json.dumps(
                inspect_log([{"id": 1, "uuid": "a", "scores": scores, "model_usage": usage}])
            ).encode(),
        )
    )
    assert [row.judge for row in rows] == ["match", "grade/a", "grade/b"]
    assert [row.prompt_tokens for row in rows] == [10, None, None]


def test_inspect_epochs_of_a_sample_without_uuid_are_told_apart(tmp_path: Path) -> None:
    """Logs of 2024 have no uuid: run, sample and epoch make the key."""
    samples: list[dict[str, object]] = [
        {"id": 1, "epoch": epoch, "scores": {"match": {"value": "C"}}} for epoch in (1, 2)
    ]
    old = {"run_id": "run", "task_id": "t", "task": "x", "created": "2024-05-05T07:59:35"}
    rows = evaluations(found(tmp_path, json.dumps(inspect_log(samples, eval=old)).encode()))
    assert len({row.evaluation_id for row in rows}) == 2


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"status": "started"}, "unfinished_run"),
        ({"status": "cancelled"}, "cancelled_run"),
        ({"status": "error"}, "failed_run"),
        ({"version": 4}, "unknown_version"),
        ({"version": True}, "unknown_version"),
    ],
)
def test_inspect_log_that_is_no_whole_run_is_not_counted(
    tmp_path: Path, columns: dict[str, object], fault: str
) -> None:
    """Its scores may be filled all the same."""
    last = found(tmp_path, json.dumps(inspect_log(SAMPLES, **columns)).encode())[-1]
    assert isinstance(last, FileFault)
    assert last.reason == fault


def test_inspect_archive_without_header_is_still_being_written(tmp_path: Path) -> None:
    """The header comes last."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        file.writestr("_journal/start.json", "{}")
    assert found(tmp_path, target.getvalue()) == [FileFault("unfinished_run")]


def test_inspect_nan_is_no_score(tmp_path: Path) -> None:
    """A bare NaN is not JSON, but inspect writes it."""
    metrics = {"accuracy": {"value": float("nan")}}
    results = {"scorer": {"name": "fact"}, "metrics": metrics}
    log = inspect_log([], version=1, results=results)
    (row,) = evaluations(found(tmp_path, json.dumps(log).encode()))
    assert (row.judge, row.score, row.status) == ("fact", None, "undetermined")


def test_inspect_results_without_samples_are_named_as_their_samples_would_be(
    tmp_path: Path,
) -> None:
    """A scorer's named value, and a second way to reduce epochs."""
    scores = [
        {"name": "includes", "scorer": "includes", "reducer": "mean"},
        {"name": "includes", "scorer": "includes", "reducer": "max"},
        {"name": "a", "scorer": "multi"},
    ]
    rows = evaluations(
        found(tmp_path, json.dumps(inspect_log([], results={"scores": scores})).encode())
    )
    assert [row.judge for row in rows] == ["includes", "includes/max", "multi/a"]
    assert len({row.evaluation_id for row in rows}) == 3


@pytest.mark.parametrize(
    ("value", "score"),
    [
        *(("C", 1.0), ("P", 0.5), ("I", 0.0), ("N", 0.0), (True, 1.0), (3, 3.0), ("yes", 1.0)),
        *(("0.25", 0.25), ("No", 0.0), ("a text", None), (None, None), ([1], None)),
    ],
)
def test_inspect_score_is_the_number_that_inspect_reckons_with(
    value: object, score: float | None
) -> None:
    """As its own conversion says, but for words that it takes for 0 with a warning."""
    assert score_of(value) == score


def test_inspect_archive_by_zstandard_is_read_and_damage_in_it_is_told(tmp_path: Path) -> None:
    """As inspect packs since 2026, which Python's own zipfile can't read before 3.14."""
    log = inspect_log(SAMPLES[:2])
    samples = [json.dumps(sample).encode() for sample in log.pop("samples")]  # type: ignore[attr-defined]
    members = {f"samples/{n}_epoch_1.json": sample for n, sample in enumerate(samples)}
    content = packed({**members, "header.json": json.dumps(log).encode()})
    assert [row.passes for row in evaluations(found(tmp_path, content))] == [1, 0]
    damaged = bytearray(content)
    damaged[len("samples/0_epoch_1.json") + 40] ^= 0xFF
    assert found(tmp_path, bytes(damaged))[-1] == FileFault("malformed_report")


def packed(members: dict[str, bytes]) -> bytes:
    """Return a zip archive of the method 93."""
    body, directory = b"", b""
    for name, content in members.items():
        packed = pa.compress(content, codec="zstd", asbytes=True)
        sizes = (zlib.crc32(content), len(packed), len(content), len(name), 0)
        common = struct.pack("<HHHHHIIIHH", 63, 0, 93, 0, 0, *sizes)
        place = struct.pack("<HHHII", 0, 0, 0, 0, len(body))
        directory += b"PK\x01\x02" + struct.pack("<H", 63) + common + place + name.encode()
        body += b"PK\x03\x04" + common + name.encode() + packed
    count = len(members)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end
