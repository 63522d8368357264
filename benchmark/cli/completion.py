"""What a shell offers after Tab. Nothing here imports torch: a completion must not be waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def configurations(incomplete: str) -> list[str]:
    """Built-in configurations."""
    from benchmark.config import config_names

    return _fitting(config_names(), incomplete)


def methods(incomplete: str) -> list[str]:
    """Methods, one after the other with commas between."""
    from methods.registry import METHODS

    return _listed((entry.name for entry in METHODS), incomplete)


def devices(incomplete: str) -> list[str]:
    """Devices, one after the other with commas between."""
    return _listed(("cpu", "cuda"), incomplete)


def datasets(incomplete: str) -> list[str]:
    """Datasets; what stands after a colon is the user's."""
    from methods.registry import DATASETS

    return _fitting((entry.name for entry in DATASETS), incomplete)


def one_of(*values: str) -> Callable[[str], list[str]]:
    """These values."""

    def complete(incomplete: str) -> list[str]:
        return _fitting(values, incomplete)

    return complete


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _listed(names: Iterable[str], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [f"{before}{comma}{name}" for name in _fitting(names, last) if name not in taken]
