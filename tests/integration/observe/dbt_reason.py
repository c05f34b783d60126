"""Build models as Cosmos tasks do, one after the other, and report why each failed."""

from __future__ import annotations

import json
import os
from pathlib import Path


def run(folder: str, models: list[str], environment: dict[str, str]) -> None:
    """Build each model of a folder's project; write name, retries and text to reasons.json."""
    os.environ.update(environment)  # noqa: TID251 - a process of its own
    os.chdir(folder)
    from cosmos.exceptions import CosmosDbtRunError  # noqa: PLC0415 - in this process alone
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 - as above

    from include.chimera.flow.cosmos.dbt_events import explain, note_failure  # noqa: PLC0415 - as above
    from include.chimera.flow.retry_policy import allowed_retries  # noqa: PLC0415 - as above

    told = {}
    for model in models:
        command, said = ["build", "--no-write-json", "--select", model], []

        def hear(event, said=said) -> None:
            if event.info.level != "debug":
                said.append(event.info.msg)

        done = dbtRunner(callbacks=[hear, note_failure]).invoke(command)
        assert not done.success
        # Cosmos puts these messages into what it raises.
        said += [str(getattr(result, "message", "")) for result in done.result or ()]
        reason = explain(CosmosDbtRunError("4711"))
        retries = allowed_retries(reason, unclassed=1)
        told[model] = (type(reason).__name__, retries, str(reason), said)
    Path("reasons.json").write_text(json.dumps(told))
