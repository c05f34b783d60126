"""`astro dev start` ends in a green hour: no `.env`, no manifest, nothing else done.

Docker and astro are not needed: the image is built by buildah on a stand-in for Astro Runtime, and
each service runs from it with the command, variables and mounts that astro's compose gives it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.chimera.local.servers.airflow_api import AirflowApi
from include.chimera.window import HOUR, floor_hour
from tests.e2e.astro import foreign
from tests.e2e.astro.compose import services, settings_commands
from tests.e2e.astro.containers import Network
from tests.e2e.astro.stand_in_image import build_base, build_image, needs_image_tools
from tests.e2e.clones import fresh_clone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.astro.compose import Service

pytestmark = [pytest.mark.e2e, pytest.mark.long, needs_image_tools]

IMAGE = "localhost/chimera-rehearsal:latest"
ASTRO, SOMEBODY = 50000, 12345  # the image's user; who cloned the repository
MINUTES = 10
DAG = "chimera_etl_hourly"


@pytest.fixture(scope="module")
def workspace() -> Iterator[Path]:
    """Return a folder that users of the image can enter; pytest closes its own to them."""
    with tempfile.TemporaryDirectory(prefix="chimera-rehearsal-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def clone(workspace: Path) -> Path:
    """Return the project as a fresh clone has it, owned by another user than the image's."""
    clone = fresh_clone(workspace / "clone" / "chimera")
    for path in (clone, *clone.rglob("*")):
        shutil.chown(path, SOMEBODY, SOMEBODY)
        path.chmod(0o755 if path.is_dir() else 0o644)
    return clone


@pytest.fixture(scope="module")
def image(clone: Path) -> str:
    build_image(clone, build_base(), IMAGE)
    return IMAGE


@dataclass(frozen=True)
class Started:
    """What `astro dev start` leaves running.

    Args:
        network: All services.
        api: Airflow's API.
        began: When they began to start, by the monotonic clock, in seconds.
    """

    network: Network
    api: AirflowApi
    began: float


@pytest.fixture(scope="module")
def started(clone: Path, image: str, workspace: Path) -> Iterator[Started]:
    """Start all services as compose does, then load the settings file as astro does."""
    found = services(clone)
    names = {name: [name, *service.aliases] for name, service in found.items()}
    with Network(names, workspace) as network:
        began = time.monotonic()
        for service in found.values():
            if service.image:
                foreign.start(network, service, clone)
            else:
                command = project_command(network, service, clone, image)
                network.keep(service.name, command)
        api = AirflowApi(f"http://{network.addresses['api-server']}:8080")
        network.until(api.is_up)
        for words in settings_commands(clone):
            within = replace(found["api-server"], command=words)
            command = project_command(network, within, clone, image)
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed
            assert done.returncode == 0, f"{words[:3]}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
        with closing(api):
            yield Started(network, api, began)


def project_command(network: Network, service: Service, clone: Path, image: str) -> list[str]:
    """Return what runs a service from the project's image, in a new container.

    A volume belongs to the image's user, as Docker copies the owner of the image's folder.
    """
    pairs = []
    for source, target in service.mounts:
        place = clone / source
        if not source.startswith("./"):
            place = network.workspace / "volumes" / source
            place.mkdir(parents=True, exist_ok=True)
            shutil.chown(place, ASTRO, 0)
        pairs.append((place, target))
    container = network.container(image)
    return network.inside(service.name, container, service.command, service.environment, pairs)


def test_the_first_full_hour_is_green_within_ten_minutes(
    started: Started, record_property: Callable[[str, object], None]
) -> None:
    api = started.api
    hour = floor_hour(datetime.now(UTC)) - HOUR

    def is_over() -> bool:
        return any(run.is_over for run in api.runs(DAG))

    started.network.until(lambda: api.parsed_at(DAG) is not None)
    started.network.until(is_over, MINUTES)
    seconds = time.monotonic() - started.began
    runs = api.runs(DAG)
    record_property("seconds", round(seconds))
    assert [(run.run_type, run.state, run.window_start) for run in runs] == [
        ("scheduled", "success", hour)
    ]
    states = {task.task_id: task.state for task in api.tasks(DAG, runs[0].run_id)}
    assert set(states.values()) == {"success"}, states
    assert seconds < 60 * MINUTES
    assert api.import_errors() == []
