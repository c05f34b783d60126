"""The peers of `benchmarks.materializations`, each in a process of its own.

Run as `python benchmarks/peers.py <peer> <folder> <rows>`: each line of the input is a step,
answered by its seconds and bytes as JSON; `end` is answered by peak memory. Nothing of the project
is imported for others than `lake`: duckrun has an environment of its own.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import duckdb

LIMITS: dict[str, str | bool | int | float | list[str]] = {"memory_limit": "4GB", "threads": "2"}
HOURS = 1000


def rows(count: int, offset: int = 0, hours: tuple[int, int] = (0, HOURS)) -> str:
    """Return a query of `count` rows in 1,000 hours, ids from `offset` on; of some hours alone."""
    share = max(count // HOURS, 1)
    first, last = (count * hour // HOURS for hour in hours)
    return (
        f"select i as id, i % 97 as model_id, 'user-' || (i % 5000) as user_id, "
        f"(i * 7919 % 100003) / 100.0::double as latency_ms, i % 4096 as tokens, "
        f"timestamp '2026-01-01' + interval (i % 86400) second as created_at, "
        f"i % 50 = 0 as is_failed, "
        f"'h' || lpad(((i - {offset}) // {share})::varchar, 4, '0') as hour "
        f"from range({offset + first}, {offset + last}) r(i)"
    )


class Peer:
    """What one tool does for each step; a step that it lacks is left out."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        self.whole = rows(count)
        self.more = rows(count // 100, count)
        self.changed = rows(count // 100, count - count // 200)  # half of the keys are known
        self.hour = rows(count, hours=(500, 501))
        self.ten_hours = rows(count, hours=(495, 505))
        self.start()

    def start(self) -> None:
        """Open what the steps need."""
        self.connection = duckdb.connect(config=LIMITS)

    def bytes(self) -> int:
        """Return the size of what was written."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


class Copy(Peer):
    """DuckDB's COPY into one Parquet file, zstd as the lake's."""

    def table(self) -> None:
        self.connection.execute(
            f"copy ({self.whole}) to '{self.folder}/t.parquet' (compression zstd)"
        )


class External(Peer):
    """dbt-duckdb's external Parquet: the model's rows become a table, which is copied."""

    def table(self) -> None:
        self.connection.execute(f"create or replace table model as {self.whole}")
        self.connection.execute(f"copy model to '{self.folder}/t.parquet' (format parquet)")
        self.connection.execute("drop table model")


class Native(Peer):
    """dbt-duckdb's own tables, in a database file: the statements of its materializations."""

    def start(self) -> None:
        self.connection = duckdb.connect(str(self.folder / "native.duckdb"), config=LIMITS)

    def table(self) -> None:
        self.connection.execute(f"create or replace table whole as {self.whole}")
        self.connection.execute("checkpoint")

    def append(self) -> None:
        self.connection.execute(f"insert into whole {self.more}")
        self.connection.execute("checkpoint")

    def merge(self) -> None:
        self.connection.execute(f"create or replace temp table changed as {self.changed}")
        self.connection.execute(
            "merge into whole using changed using (id) when matched then update "
            "when not matched then insert"
        )
        self.connection.execute("checkpoint")

    def hourly(self) -> None:
        self.connection.execute(f"create or replace table hourly as {self.whole}")

    def replace(self) -> None:
        self.connection.execute(f"create or replace temp table fresh as {self.hour}")
        self.connection.execute("begin")
        self.connection.execute("delete from hourly where hour in (select hour from fresh)")
        self.connection.execute("insert into hourly from fresh")
        self.connection.execute("commit")
        self.connection.execute("checkpoint")


class Lake(Peer):
    """This project's materializations."""

    def start(self) -> None:
        os.environ["CHIMERA_STATE_DIR"] = str(self.folder)  # noqa: TID251 - before it is read
        os.environ["CHIMERA_DUCKDB_MEMORY_LIMIT"] = str(LIMITS["memory_limit"])  # noqa: TID251 - as above
        from include.chimera.lake.dbt_plugin.session import Session  # noqa: PLC0415 - not in other peers
        from include.chimera.lake.store.duckdb_sessions import connect  # noqa: PLC0415 - not in other peers

        self.connection, self.session = connect(), Session(None)
        self.session.attach(self.connection)

    def _build(self, table: str, query: str, strategy: str, *keys: str, by: str = "") -> None:
        from include.chimera.lake.dbt_plugin.materializations import Order  # noqa: PLC0415 - not in other peers
        from include.chimera.lake.dbt_plugin.strategies import Rewrite  # noqa: PLC0415 - not in other peers
        from include.chimera.relation import Relation  # noqa: PLC0415 - not in other peers

        how = strategy if strategy == "all" else Rewrite(strategy, keys)
        self.connection.execute(f"create or replace temp view incoming as {query}")
        self.session.write(
            self.connection,
            Order(Relation.of(table), "incoming", how, partition_by=(by,) if by else ()),
        )

    def table(self) -> None:
        self._build("bench.whole", self.whole, "all")

    def append(self) -> None:
        self._build("bench.whole", self.more, "append")

    def merge(self) -> None:
        self._build("bench.whole", self.changed, "merge", "id")

    def hourly(self) -> None:
        self._build("bench.hourly", self.whole, "all", by="hour")

    def replace(self) -> None:
        self._build("bench.hourly", self.hour, "delete+insert", "hour")

    def short(self) -> None:
        self._build("bench.short", self.ten_hours, "all", by="hour")

    def replace_short(self) -> None:
        self._build("bench.short", self.hour, "delete+insert", "hour")


class Duckrun(Peer):
    """duckrun: DuckDB's rows through delta-rs' writer."""

    def start(self) -> None:
        from duckrun import _runtime  # noqa: PLC0415 - only in its own environment

        # It asks for a newer DuckDB than has a delta extension in a wheel.
        _runtime._MIN_DUCKDB = duckdb.__version__  # noqa: SLF001 - no other way
        import duckdb_extension_delta  # noqa: PLC0415 - only in its own environment
        import duckrun  # noqa: PLC0415 - only in its own environment

        session = duckrun.connect(str(self.folder), read_only=False)
        wheel = Path(duckdb_extension_delta.__file__).parent
        session.con.load_extension(str(next(wheel.glob("extensions/*/delta.duckdb_extension"))))
        self.run = session.sql
        for name, value in LIMITS.items():
            self.run(f"set {name} = '{value}'")

    def table(self) -> None:
        self.run(f"create or replace table whole as {self.whole}")

    def append(self) -> None:
        self.run(f"insert into whole {self.more}")

    def merge(self) -> None:
        self.run(
            f"merge into whole t using ({self.changed}) s on t.id = s.id "
            "when matched then update set * when not matched then insert *"
        )

    def hourly(self) -> None:
        self.run(f"create or replace table hourly partitioned by (hour) as {self.whole}")

    def replace(self) -> None:
        self.run(f"insert into hourly replace where hour = 'h0500' {self.hour}")


PEERS = {"lake": Lake, "copy": Copy, "native": Native, "external": External, "duckrun": Duckrun}


def main() -> None:
    """Answer steps until the input ends."""
    name, folder, count = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # a tool may print what it likes
    peer = PEERS[name](Path(folder), int(count))
    for line in sys.stdin:
        step, answer = line.strip(), {}
        if step == "end":
            answer = {"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        elif hasattr(peer, step):
            start = time.perf_counter()
            getattr(peer, step)()
            answer = {"seconds": time.perf_counter() - start, "bytes": peer.bytes()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
