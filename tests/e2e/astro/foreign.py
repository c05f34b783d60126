"""The services whose images are others': run by what this machine has, as their images would."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from include.chimera.local.servers.account import copy_binaries

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.astro.compose import Service
    from tests.e2e.astro.containers import Network

logger = logging.getLogger(__name__)
# What can't run here, and what the rehearsal does not show for that.
SKIPPED = {
    "statsd-exporter": "no Debian package: nobody listens to Airflow's metrics",
    "grafana": "no Debian package: nobody looks at the dashboard",
    "mailpit": "no Debian package: no mail arrives",
}
_NOBODY = 65534
_PROGRAMS = {
    "prometheus": ("prometheus", []),
    "alertmanager": (
        "prometheus-alertmanager",
        ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"],
    ),
}


def start(network: Network, service: Service, clone: Path) -> None:
    """Start a service of another's image, or say why not."""
    kinds: dict[str, Callable[[], None]] = {
        "postgres": lambda: _postgres(network, service, clone),
        "minio": lambda: _object_store(network, service),
        "prometheus": lambda: _program(network, service, clone),
        "alertmanager": lambda: _program(network, service, clone),
    }
    kind = service.image.partition(":")[0].rpartition("/")[2]
    if kind in SKIPPED:
        logger.warning("not run: %s, %s", service.name, SKIPPED[kind])
    else:
        kinds[kind]()


def _postgres(network: Network, service: Service, clone: Path) -> None:
    """Do what the image does at first: a cluster, a database, and the scripts of its folder."""
    place = network.workspace / service.name
    place.mkdir()
    programs = copy_binaries(place)  # where another user may enter
    user = service.environment.get("POSTGRES_USER", "postgres")
    database = service.environment.get("POSTGRES_DB", user)
    make = f"{programs}/initdb -D {place}/data -U {user} -A trust --locale=C -E UTF8 --no-sync"
    let_in = f"echo 'host all all all trust' >> {place}/data/pg_hba.conf"
    options = f"-D {place}/data -k {place} -c listen_addresses='*' -c fsync=off"
    run = f"exec {programs}/postgres {options}"
    script = f"[ -d {place}/data ] || {{ {make} && {let_in}; }} && {run}"
    os.chown(place, _NOBODY, _NOBODY)
    as_nobody = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    network.keep(service.name, [*network.beside(service.name), *as_nobody, "sh", "-c", script])
    host = network.addresses[service.name]
    network.until(lambda: _answers(host, user))
    with psycopg.connect(host=host, user=user, dbname="postgres", autocommit=True) as connection:
        if database != "postgres":
            connection.execute(f'create database "{database}"'.encode())
    with psycopg.connect(host=host, user=user, dbname=database) as connection:
        for source, target in service.mounts:
            if target.startswith("/docker-entrypoint-initdb.d/"):
                connection.execute((clone / source).read_bytes())


def _answers(host: str, user: str) -> bool:
    try:
        psycopg.connect(host=host, user=user, dbname="postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _program(network: Network, service: Service, clone: Path) -> None:
    """Run a program of Debian's, with the paths of its image replaced by those on this machine."""
    program, usual = _PROGRAMS[service.name]
    volumes = network.workspace / service.name
    volumes.mkdir()
    places = {target: str(clone / source) for source, target in service.mounts if source[0] == "."}
    arguments = []
    for argument in service.command or usual:
        option, _, value = argument.partition("=")
        is_folder = value.startswith("/") and value not in places
        arguments.append(f"{option}={volumes if is_folder else places.get(value, value)}")
    found = shutil.which(program)
    if found is None:
        logger.warning("not run: %s, %s is not installed", service.name, program)
        return
    with_hosts = f"mount --bind {network.hosts} /etc/hosts && exec {found} {' '.join(arguments)}"
    network.keep(
        service.name, [*network.beside(service.name), "unshare", "--mount", "sh", "-c", with_hosts]
    )


def _object_store(network: Network, service: Service) -> None:
    """SeaweedFS in place of MinIO, on its port."""
    folder = network.workspace / service.name
    folder.mkdir()
    weed = Path(sys.executable).with_name("weed")
    address = network.addresses[service.name]
    words = [str(weed), "-logtostderr", "server", f"-ip={address}", f"-dir={folder}"]
    words += ["-s3", "-s3.port=9000", "-master.volumeSizeLimitMB=64", "-volume.max=20"]
    network.keep(service.name, [*network.beside(service.name), *words])
