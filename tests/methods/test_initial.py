"""`initial`: a zero displacement, and a template that works when it is copied into a plugin file."""

from __future__ import annotations

from pathlib import Path

from support.shifted_pair import shifted_pair

from methods import initial
from methods.base import Grid
from methods.registry import METHODS, create_method, load_plugin


def test_displacement_is_zero() -> None:
    pair = shifted_pair(Grid((12, 30, 20)), (1.0, 0.0, 0.0))
    registration = create_method("initial").register(pair)
    registration.check(pair.grid)
    assert not registration.displacement_mm.any()


def test_a_copy_of_the_file_is_a_plugin(tmp_path: Path) -> None:
    """The two lines that the template asks for are all that a copy needs."""
    text = Path(initial.__file__).read_text(encoding="utf-8")
    copy = tmp_path / "my_method.py"
    copy.write_text(
        text.replace("\nimport numpy", "\nfrom methods.registry import METHODS\nimport numpy", 1).replace(
            "\nclass Initial(", '\n@METHODS.register("copied-template")\nclass Initial(', 1
        )
    )
    load_plugin(copy)
    assert METHODS["copied-template"].summary.startswith("No registration")
    method = create_method("copied-template")
    assert method.unavailable("cpu") is None
    method.prepare("cpu", 1, 0)
    pair = shifted_pair(Grid((12, 30, 20)), (1.0, 0.0, 0.0))
    method.register(pair).check(pair.grid)


def test_every_function_of_the_contract_is_shown_or_named() -> None:
    text = Path(initial.__file__).read_text(encoding="utf-8")
    for name in ("devices", "Settings", "unavailable", "prepare", "register", "notes", "`fit`", "`fingerprint`"):
        assert name in text, name
