"""Build the project's image with buildah, on a base that stands in for Astro Runtime.

The base is Debian's smallest system with Airflow in /usr/local, the user `astro` and the runtime's
build triggers. It takes five minutes the first time, then buildah keeps it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from include.chimera.paths import PROJECT

HOME = "/usr/local/airflow"
TOOLS = ("buildah", "debootstrap")
_SUITE = "bookworm"
_PATH = "/usr/local/bin:/usr/bin:/bin"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_CACHE = Path.home() / ".cache" / "uv"
# What `install-python-dependencies` is in the runtime. The lock as constraints: nothing newer.
_INSTALL = """#!/bin/sh
set -e
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_CACHE_DIR=/cache UV_LINK_MODE=copy
exec uv pip install --quiet --python /usr/local/bin/python --constraint /etc/lock.txt "$@"
"""
_INSTALL_PACKAGES = """#!/bin/sh
! grep -v '^#' packages.txt  # there are none to install
"""
_TRIGGERS = (
    "USER root",
    "COPY packages.txt requirements.txt ./",
    "RUN install-system-packages",
    "RUN install-python-dependencies --requirement requirements.txt",
    "USER astro",
    "COPY --chown=astro:0 . .",
)

_PROGRAMS = {
    "install-system-packages": _INSTALL_PACKAGES,
    "install-python-dependencies": _INSTALL,
}

needs_image_tools = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, TOOLS)),
    reason="building an image needs root, buildah and debootstrap (Debian packages)",
)


def build_image(project: Path, base: str, name: str) -> None:
    """Build the project folder's Dockerfile on the base, as `docker build` does."""
    text = (project / "Dockerfile").read_text()
    dockerfile = project.with_name("Dockerfile")
    dockerfile.write_text(re.sub(r"^FROM .*$", f"FROM {base}", text, flags=re.MULTILINE))
    buildah(
        "build", *_isolation(), *_mounts(), "--format", "docker", "--pull-never",
        *("--ignorefile", str(project / ".dockerignore"), "--file", str(dockerfile)),
        *("--tag", name, str(project)),
    )  # fmt: skip


def build_base() -> str:
    """Return the name of the base image, built unless it is there already."""
    airflow = _locked("apache-airflow")
    recipe = (_SUITE, airflow, _PROGRAMS, _TRIGGERS, _lock())
    name = f"localhost/runtime-stand-in:{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"
    if name.removeprefix("localhost/") in buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
        return name
    container = buildah("from", "scratch").strip()
    try:
        root = Path(buildah("mount", container).strip())
        packages = "python3,python3-venv,ca-certificates"
        command = ["debootstrap", "--variant=minbase", f"--include={packages}", _SUITE, str(root)]
        _run(command)
        _fill(root, container, airflow)
        for trigger in _TRIGGERS:
            buildah("config", "--onbuild", trigger, container)
        variables = (f"AIRFLOW_HOME={HOME}", f"PYTHONPATH={HOME}", f"PATH={_PATH}")
        options = [f"--env={variable}" for variable in variables]
        buildah("config", f"--workingdir={HOME}", "--user=astro", *options, container)
        buildah("umount", container)
        buildah("commit", "--format", "docker", container, name)
    finally:
        buildah("rm", container)
    return name


def _fill(root: Path, container: str, airflow: str) -> None:
    for name, script in _PROGRAMS.items():
        program = root / "usr" / "local" / "bin" / name
        program.write_text(script)
        program.chmod(0o755)
    (root / "etc" / "lock.txt").write_text(_lock())
    (root / "etc" / "pip.conf").write_text("[global]\nno-cache-dir = true\n")
    steps = (
        f"useradd --uid 50000 --gid 0 --home-dir {HOME} --create-home astro",
        "python3 -m venv /usr/local && /usr/local/bin/pip install --quiet uv",
        f"install-python-dependencies apache-airflow=={airflow}",
    )
    for step in steps:
        command = f"PATH={_PATH}:/usr/sbin; set -e; {step}"
        buildah("run", *_isolation(), *_mounts(), container, "--", "sh", "-c", command)


def _lock() -> str:
    """Return the lock without hashes: some of its packages are for other Pythons."""
    text = (PROJECT / "constraints.txt").read_text()
    return (
        "\n".join(re.findall(r"^[\w.\[\],-]+==[^\s\\]+(?: ;[^\\\n]*)?", text, re.MULTILINE)) + "\n"
    )


def _locked(package: str) -> str:
    found = re.search(rf"^{package}(?:\[[^]]*\])?==(\S+)", _lock(), re.MULTILINE)
    assert found, package
    return found[1]


def _isolation() -> tuple[str, ...]:
    return ("--isolation", "chroot", "--network", "host")


def _mounts() -> tuple[str, ...]:
    """Return the mounts for what is downloaded, and for the certificates that a proxy may need."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    certificates = f"{_CERTIFICATES}:{_CERTIFICATES}:ro"
    return ("--volume", f"{_CACHE}:/cache", "--volume", certificates)


def buildah(*arguments: str) -> str:
    """Run a command of buildah and return its output."""
    return _run(["buildah", *arguments])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed
    assert done.returncode == 0, f"{command[:3]}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout
