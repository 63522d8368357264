"""A rigidity image that elastix cannot use is an error, because elastix would penalise the whole image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from methods.elastix import rigidity


def test_an_image_that_elastix_did_not_use_is_found_in_the_log(done: Callable[[str], dict[str, Any]]) -> None:
    assert "did not use the rigidity image" in done("lost_image")["error"]


def test_an_image_that_was_not_written_is_found(done: Callable[[str], dict[str, Any]]) -> None:
    assert "expected a file at" in done("unwritten_image")["error"]


def test_a_damaged_image_is_found(done: Callable[[str], dict[str, Any]]) -> None:
    assert "reads back as" in done("damaged_image")["error"]


def test_a_log_without_the_images_name_is_refused() -> None:
    with pytest.raises(RuntimeError, match="cannot be verified"):
        rigidity.check_log("all is well", Path("rigidity.mha"))
