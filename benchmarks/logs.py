"""An hour of API logs staged from a bucket, beside the same files in a folder.

`python -m benchmarks.logs [--json PATH] [--lines 1000000]` writes the hour as one file, as one that
is gzipped, and as many small ones, and a gigabyte of long lines; stages each from a folder and from
a real S3 server on this machine, and takes lines per second and the peak memory of a process of its
own. As many spans of an OpenTelemetry Collector are staged beside the lines in one file. The faster
of two runs counts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.records import Record, hand_on, peak_mib
from include.chimera.contracts import GENERATIONS
from include.chimera.local.servers.environment import MALLOC
from include.chimera.paths import PROJECT
from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import hour_path, log_root
from include.chimera.sources.otel.extract import PURPOSE, extract_spans
from include.chimera.sources.stored.stored_roots import stored_root
from tests.builders import HOUR, run_of
from tests.integration.object_store import BUCKET, store_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.object_store import Store

_GIGABYTE, _LONG = 10_000, 100_000
_SPANS_A_LINE = 200


def main() -> None:
    """Measure and hand on the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--child", help="root of the logs: stage the hour and print JSON")
    parser.add_argument("--spans", action="store_true", help="the child's root holds spans")
    options = parser.parse_args()
    if options.child:
        sys.stdout.write(json.dumps(_stage(options.child, is_spans=options.spans)))
        return
    with store_server() as store:
        hand_on(_compare(store, options.lines), options.json)


def _compare(store: Store, lines: int) -> Iterator[Record]:
    cases = {
        f"{lines:,} lines in one file": (lines, 0, 1, False),
        f"{lines:,} lines in one gzipped file": (lines, 0, 1, True),
        f"{lines:,} lines in 200 files": (lines, 0, 200, False),
        "1 GB in one file": (_GIGABYTE, _LONG, 1, False),
    }
    seconds: list[float] = []
    for name, (count, padding, files, is_packed) in cases.items():
        with tempfile.TemporaryDirectory(prefix="chimera-bench-") as root:
            _write(Path(root), count, padding, files, is_packed=is_packed)
            place = f"{BUCKET}/{uuid4().hex}"
            for path in Path(root).rglob("*.jsonl*"):
                with (
                    path.open("rb") as content,
                    store.files().open_output_stream(f"{place}/{path.relative_to(root)}") as stream,
                ):
                    while part := content.read(1 << 24):
                        stream.write(part)
            folder = _child([root], {})
            seconds.append(folder["seconds"])
            bucket = _child([f"s3://{place}"], store.variables)
        for told, found in (("folder", folder), ("bucket", bucket)):
            speed, ratio = count / found["seconds"], found["seconds"] / folder["seconds"]
            goal = 1.5 if told == "bucket" else None
            yield Record(
                f"log lines per second, {name}, {told}", "folder", ratio, speed, "/s", goal
            )
            peak = found["peak_mb"]
            yield Record(f"memory, {name}, {told}", "limit 512 MiB", peak / 512, peak, "MiB", 1)

    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as root:
        _write_spans(Path(root), lines)
        spans = _child([root, "--spans"], {})
    ratio, peak = spans["seconds"] / seconds[0], spans["peak_mb"]
    yield Record(f"hour of {lines:,} spans", "API log's lines", ratio, spans["seconds"], "s", 2)
    yield Record(f"memory, {lines:,} spans", "limit 512 MiB", peak / 512, peak, "MiB", 1)


def _write_spans(root: Path, count: int) -> None:
    """Write the hour's calls as a Collector's file exporter does, each with twelve attributes."""
    start = int(HOUR.timestamp() * 1e9)
    with (root / "spans.jsonl").open("wb") as file:
        for first in range(0, count, _SPANS_A_LINE):
            numbers = range(first, min(first + _SPANS_A_LINE, count))
            spans = [
                _span(number, start + number * 3_590_000_000_000 // count) for number in numbers
            ]
            scopes = [{"scope": {"name": "openai"}, "spans": spans}]
            file.write(json.dumps({"resourceSpans": [{"scopeSpans": scopes}]}).encode() + b"\n")


def _span(number: int, start: int) -> dict[str, object]:
    """Return the OTLP JSON of a call that began then (nanoseconds since 1970)."""
    texts = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.id": f"chatcmpl-{number:029}",
        "gen_ai.conversation.id": f"session-{number % 99_991}",
        "server.address": "api.openai.com",
        "gen_ai.output.type": "text",
    }
    numbers = {
        "gen_ai.usage.input_tokens": number % 997,
        "gen_ai.usage.output_tokens": number % 499,
        "server.port": 443,
    }
    values: dict[str, dict[str, object]] = {
        key: {"stringValue": text} for key, text in texts.items()
    }
    values |= {key: {"intValue": str(whole)} for key, whole in numbers.items()}
    values["gen_ai.response.finish_reasons"] = {"arrayValue": {"values": [{"stringValue": "stop"}]}}
    return {
        "traceId": f"{number + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "parentSpanId": "",
        "name": "chat gpt-4o",
        "kind": 3,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + number % 997 * 1_000_000),
        "attributes": [{"key": key, "value": value} for key, value in values.items()],
        "status": {},
    }


def _write(root: Path, count: int, padding: int, files: int, *, is_packed: bool) -> None:
    """Write the hour's lines."""
    folder = root / hour_path(HOUR)
    folder.mkdir(parents=True)
    each = count // files
    for number in range(files):
        path = folder / f"{number:03}.jsonl{'.gz' if is_packed else ''}"
        with gzip.open(path, "wb", 1) if is_packed else path.open("wb") as file:
            for line in range(number * each, (number + 1) * each):
                file.write(
                    b'{"timestamp":"2026-01-01T05:%02d:%02d.%06dZ","level":"info","request_id":'
                    b'"request-%09d","method":"POST","path":"/v1/generate","status_code":200,'
                    b'"duration_ms":%d.5,"user_id":"user-%05d","response_bytes":%d,"message":"%s"}\n'
                    % (
                        *(line // 60 % 60, line % 60, line % 1_000_000, line),
                        *(line % 997, line % 99_991, line % 65_537, b"x" * padding),
                    )
                )


def _child(arguments: list[str], variables: dict[str, str]) -> dict[str, float]:
    """Stage twice in processes of their own; return the faster."""
    found: list[dict[str, float]] = []
    for _ in range(2):
        with tempfile.TemporaryDirectory(prefix="chimera-bench-") as state:
            done = subprocess.run(  # noqa: S603 - fixed arguments
                [sys.executable, "-m", "benchmarks.logs", "--child", *arguments],
                cwd=PROJECT,
                env={"PATH": os.defpath, "CHIMERA_STATE_DIR": state, **MALLOC, **variables},
                check=True,
                stdout=subprocess.PIPE,
            )
        found.append(json.loads(done.stdout))
    return min(found, key=lambda run: run["seconds"])


def _stage(root: str, *, is_spans: bool) -> dict[str, float]:
    started = time.perf_counter()
    if is_spans:
        extract_spans(GENERATIONS, stored_root(root, PURPOSE), run_of())
    else:
        extract_api_logs(log_root(root), run_of())
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "peak_mb": peak_mib(),
    }


if __name__ == "__main__":
    main()
