"""Environments of Python for packages that are none of the project's."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest


def environment_of(folder: Path, *packages: str, beside_ours: bool = False) -> Path:
    """Install packages into a new environment; return its folder of programs.

    Skips the test where they can't be had, as without a network.

    Args:
        folder: An empty folder.
        packages: With their versions.
        beside_ours: Whether the project's packages are there too, and what these ask for with them.
    """
    _run("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    if beside_ours:
        (site,) = folder.glob("lib/python*/site-packages")
        ours = sysconfig.get_path("purelib")
        (site / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    alone = ["--no-deps"] if beside_ours else []
    install("--python", str(folder / "bin" / "python"), *alone, *packages)
    return folder / "bin"


def install(*given: str) -> None:
    """Run `uv pip install`; skip the test where packages can't be had, as without a network."""
    try:
        _run("pip", "install", "--quiet", *given)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{' '.join(given)}: can't be installed: {error.stderr[-200:]}")


def _run(*given: str) -> None:
    """Run uv with this machine's certificates, and without the project's own rules for packages."""
    command = (sys.executable, "-m", "uv", "--no-config", "--system-certs", *given)
    subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own words
