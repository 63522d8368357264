"""The server of elastix jobs, shared by the test files of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.elastix_jobs import job_server


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], dict[str, Any]]]:
    """The result of a job of support/elastix_jobs.py by name."""
    with job_server(tmp_path_factory.mktemp("elastix"), tmp_path_factory.mktemp("temporary")) as result:
        yield result
