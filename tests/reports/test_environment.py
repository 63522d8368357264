"""The environment of a run on one line."""

from __future__ import annotations

from reports.environment import environment_line


def test_the_environment_line_names_what_is_known_and_leaves_out_what_is_not():
    known = {
        "date": "2026-01-02T03:04:05+00:00",
        "processor": "A CPU",
        "cores": 2,
        "memory_gb": 7.8,
        "gpu": None,
        "load": 0.5,
        "system": "Linux 6.1",
        "python": "3.11.2",
        "packages": {"torch": "2.13.0", "itk-elastix": None, "numpy": "2.4.6"},
        "commit": "b2cee2f0123456789",
        "modified": True,
    }
    assert environment_line(known) == (
        "A CPU · 2 cores · 7.8 GB · Linux 6.1 · Python 3.11.2 · torch 2.13.0 · rigidbench b2cee2f012 with local changes"
        " · 2026-01-02T03:04:05+00:00"
    )
    assert environment_line({**known, "cores": 1}).startswith("A CPU · 1 core · ")
    assert environment_line({}) == "not recorded"
