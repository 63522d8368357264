"""Whether a library that a method needs is installed, without importing it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of(package: str) -> str | None:
    """The installed version of a package, by its name in the index, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def missing(package: str, install: str = "") -> str | None:
    """Why a method cannot run without `package`, with the command that installs it, or None where it is there."""
    return None if version_of(package) else f"{package} is not installed; pip install {install or package}"


PEERS = "-e '.[peers]'"
