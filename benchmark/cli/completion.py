"""Shell completion of names. Each function takes the text typed so far and returns its completions.

Nothing here imports torch, so that a completion appears at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable


def configurations(incomplete: str) -> list[str]:
    """Complete the name of a built-in configuration."""
    from benchmark.config import config_names

    return _matching(config_names(), incomplete)


def methods(incomplete: str) -> list[str]:
    """Complete the last of comma-separated names of methods."""
    from methods.registry import METHODS

    return _complete_last((entry.name for entry in METHODS), incomplete)


def devices(incomplete: str) -> list[str]:
    """Complete the last of comma-separated names of devices."""
    return _complete_last(("cpu", "cuda"), incomplete)


def datasets(incomplete: str) -> list[str]:
    """Complete the name of a dataset, but no argument after a colon."""
    from methods.registry import DATASETS

    return _matching((entry.name for entry in DATASETS), incomplete)


def label_maps(incomplete: str) -> list[str]:
    """Complete the name of a label map."""
    from benchmark.datasets.io.label_maps import ROLES, VERSE, label_map_names

    start = next((i + 1 for i in reversed(range(len(incomplete))) if incomplete[i] in "=,"), 0)
    before, typed = incomplete[:start], incomplete[start:]
    scans = [f"{scan}=" for scan in ROLES] if not before.endswith("=") else []
    return [before + name for name in _matching([*label_map_names(), VERSE, *scans], typed)]


def one_of(*values: str) -> Callable[[str], list[str]]:
    """Return a function that completes one of `values`."""

    def complete(incomplete: str) -> list[str]:
        return _matching(values, incomplete)

    return complete


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _complete_last(names: Iterable[str], incomplete: str) -> list[str]:
    """The typed list with its last name completed; names that it already holds are left out."""
    before, comma, last = incomplete.rpartition(",")
    used = before.split(",")
    return [f"{before}{comma}{name}" for name in _matching(names, last) if name not in used]
