"""A run's environment.json for readers: on one line below a table, or as names and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def environment_line(environment: Mapping[str, Any]) -> str:
    """Return environment.json on one line: machine, versions and commit. Unknown values are left out.

    The commit has its first ten digits, and `with local changes` where the code on disk differed from it.
    """
    packages = environment.get("packages") or {}
    versions = {"Python": environment.get("python")} | {name: packages.get(name) for name in ("torch", "itk-elastix")}
    changed = " with local changes" if environment.get("modified") else ""
    facts = [
        environment.get("processor"),
        _fact(environment.get("cores"), "{} core" if environment.get("cores") == 1 else "{} cores"),
        _fact(environment.get("memory_gb"), "{} GB"),
        environment.get("gpu"),
        environment.get("system"),
        *(_fact(version, f"{name} {{}}") for name, version in versions.items()),
        _fact(str(environment.get("commit") or "")[:10], f"rigidbench {{}}{changed}"),
        environment.get("date"),
    ]
    return " · ".join(str(fact) for fact in facts if fact) or "not recorded"


def _fact(value: object, template: str) -> str | None:
    return template.format(value) if value else None


def environment_lines(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return environment.json as names and values in its order; unknown values are left out."""
    lines = []
    for name, value in environment.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {version}" for key, version in value.items() if version)
        if value not in (None, ""):
            lines.append((name.replace("_", " "), str(value)))
    return lines
