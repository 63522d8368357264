"""Checks that several methods share: a library is installed, a pair can be registered."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from methods.base import Pair


def extra(name: str) -> str:
    """What pip installs for the optional rows of an extra in pyproject.toml."""
    return f"'rigidbench[{name}]'"


PEERS = extra("peers")


def installation(what: str) -> str:
    """The command that installs something beside rigidbench, both where a wheel was installed and in a checkout.

    An extra of rigidbench itself needs no package index: rigidbench is there, editable or not, and pip adds the rest.

    Args:
        what: the argument of `pip install`.
    """
    return f"pip install {what} (in a checkout: .venv/bin/pip)"


def version_of(package: str) -> str | None:
    """The installed version of a package, by its name in the package index, or None. Imports nothing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def missing(package: str, install: str = "") -> str | None:
    """The reason why a method that needs `package` is unavailable, or None if the package is installed.

    Args:
        package: its name in the package index.
        install: the argument of the `pip install` that the reason recommends; empty for the package itself.
    """
    return None if version_of(package) else f"{package} is not installed; {installation(install or package)}"


def reasons(*parts: str | None) -> str | None:
    """Reasons why a row is unavailable as one line, or None if there are none."""
    return "; ".join(part for part in parts if part) or None


def refuse_flat(pair: Pair) -> None:
    """Raise ValueError if one of the two images has the same value in every voxel."""
    for name, scan in (("fixed", pair.fixed), ("moving", pair.moving)):
        if scan.image.min() == scan.image.max():
            raise ValueError(f"pair {pair.case}: the {name} image has one value everywhere, {scan.image.flat[0]}")


def refuse_unlabelled(pair: Pair, method: str) -> None:
    """Raise ValueError if the moving label map is empty and the row `method` needs labelled vertebrae."""
    if pair.moving.labels is None or not pair.moving.labels.any():
        raise ValueError(f"pair {pair.case}: the moving label map is empty; {method} needs labelled vertebrae")
