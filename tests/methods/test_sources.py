"""methods/sources.py: edits that change the hash of a file and edits that do not; imports of hand-built packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.files import write_files

from methods.sources import Sources, syntax_hash

BEFORE = '''
    """A module."""
    from dataclasses import dataclass

    LIMIT: int = 3

    @dataclass
    class Point:
        """A point."""
        x: int = 0

        def moved(self, by: int) -> "Point":
            """The point elsewhere."""
            new: int = self.x + by  # in voxels
            return Point(new)

    def nothing() -> None:
        """Not yet."""
'''
SAME = {
    "docstrings": BEFORE.replace('"""A module."""', '"""Another."""').replace('"""A point."""', ""),
    "a docstring in place of pass": BEFORE.replace('"""Not yet."""', "pass"),
    "comments": BEFORE.replace("# in voxels", "# no unit"),
    "layout": BEFORE.replace("self.x + by", "(\n                self.x\n                + by)").replace(
        "\n\n", "\n\n\n"
    ),
    "annotations of arguments and returns": BEFORE.replace('by: int) -> "Point"', "by: float)").replace(" -> None", ""),
    "annotations of variables": BEFORE.replace("new: int =", "new =").replace("LIMIT: int", "LIMIT"),
}
OTHER = {
    "a constant": BEFORE.replace("= 3", "= 4"),
    "a constant of another type": BEFORE.replace("= 3", "= 3.0"),
    "a default": BEFORE.replace("x: int = 0", "x: int = 1"),
    "the annotation of a field": BEFORE.replace("x: int = 0", "x: float = 0"),
    "an operator": BEFORE.replace("self.x + by", "self.x - by"),
    "a decorator": BEFORE.replace("@dataclass", "@dataclass(frozen=True)"),
    "a statement": BEFORE.replace('"""Not yet."""', "raise ValueError"),
}


class TestSyntax:
    @pytest.fixture
    def hashed(self, tmp_path: Path) -> Any:
        def of(text: str) -> str:
            return syntax_hash(write_files(tmp_path, {"a.py": text}) / "a.py")

        return of

    @pytest.mark.parametrize("edit", SAME)
    def test_an_edit_that_cannot_change_a_result_keeps_the_hash(self, hashed: Any, edit: str) -> None:
        assert SAME[edit] != BEFORE
        assert hashed(SAME[edit]) == hashed(BEFORE)

    @pytest.mark.parametrize("edit", OTHER)
    def test_an_edit_that_can_change_a_result_changes_the_hash(self, hashed: Any, edit: str) -> None:
        assert OTHER[edit] != BEFORE
        assert hashed(OTHER[edit]) != hashed(BEFORE)

    def test_the_body_of_type_checking_has_no_effect(self, hashed: Any) -> None:
        guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {}\nelse:\n    x = {}\n"
        assert hashed(guarded.format("os", 1)) == hashed(guarded.format("sys", 1)) != hashed(guarded.format("os", 2))

    def test_the_heading_of_a_metric_keeps_the_hash_and_its_declaration_changes_it(self, hashed: Any) -> None:
        metric = """
            @METRICS.register("gap_mm", per="vertebra", unit="mm", title="Gap", better="lower")
            def gap_mm(e):
                return e.gaps
        """
        assert hashed(metric.replace('"Gap"', '"Distance"').replace('unit="mm", ', "")) == hashed(metric)
        assert hashed(metric.replace('per="vertebra"', 'per="case"')) != hashed(metric)
        assert hashed(metric.replace("gap_mm", "gaps_mm")) != hashed(metric)

    def test_the_hash_of_another_file_is_that_of_its_bytes(self, tmp_path: Path) -> None:
        file = write_files(tmp_path, {"a.txt": "# one"}) / "a.txt"
        before = syntax_hash(file)
        file.write_text("# two")
        assert syntax_hash(file) != before

    @pytest.mark.parametrize("name", ["absent.py", "absent.txt"])
    def test_a_path_that_does_not_exist_is_an_error(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(FileNotFoundError):
            syntax_hash(tmp_path / name)


TREE = {
    "a/__init__.py": "from a import start",
    "a/start.py": "X = 1",
    "a/top.py": "import os\nimport a.deep.one",
    "a/deep/__init__.py": "",
    "a/deep/one.py": "from b import two",
    "a/inside.py": "def f():\n    from . import lazy\n    from .deep import one as other",
    "a/lazy.py": "from .deep.far import Y",
    "a/deep/far.py": "from ..round import Z",
    "a/round.py": "import a.lazy",
    "a/typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from b import three\nimport typing\n"
    "if typing.TYPE_CHECKING:\n    from b import three",
    "a/broken.py": "import a.nowhere",
    "b/__init__.py": "two = 1",
    "b/two.py": "",
    "b/three.py": "",
}
EVERY = {"a", "a.start"}  # a module brings its package, whose __init__ imports a.start
REACHED = {
    "a.start": EVERY,
    "a.top": EVERY | {"a.top", "a.deep", "a.deep.one", "b", "b.two"},
    "a.inside": EVERY | {"a.inside", "a.lazy", "a.deep", "a.deep.one", "a.deep.far", "a.round", "b", "b.two"},
    "a.lazy": EVERY | {"a.lazy", "a.deep", "a.deep.far", "a.round"},
    "a.typed": EVERY | {"a.typed"},
    "b.three": {"b", "b.three"},
}


class TestReached:
    @pytest.fixture
    def sources(self, tmp_path: Path) -> Sources:
        return Sources(write_files(tmp_path, TREE), ["a", "b"])

    @pytest.mark.parametrize("module", REACHED)
    def test_modules_that_are_imported(self, sources: Sources, module: str) -> None:
        assert sources.reached([module]) == REACHED[module]

    def test_several_modules_reach_the_union(self, sources: Sources) -> None:
        assert sources.reached(["a.typed", "b.three"]) == REACHED["a.typed"] | REACHED["b.three"]

    def test_a_missing_module_is_an_error(self, sources: Sources) -> None:
        for call in (sources.reached, sources.hash):
            with pytest.raises(FileNotFoundError, match=r"module a\.nowhere"):
                call(["a.nowhere"])
        with pytest.raises(FileNotFoundError, match=r"module a\.nowhere"):
            sources.reached(["a.broken"])
        with pytest.raises(FileNotFoundError, match=r"module c\b"):
            sources.within("c")

    def test_a_missing_package_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="package c"):
            Sources(tmp_path, ["c"])

    def test_the_modules_of_a_package(self, sources: Sources) -> None:
        assert sources.within("a.deep") == {"a.deep", "a.deep.one", "a.deep.far"}

    def test_a_file_outside_the_packages_reaches_its_imports(self, sources: Sources) -> None:
        file = b"import numpy\nfrom a import lazy, nothing\nfrom .b import x\ndef f():\n    import b.three\n"
        assert sources.imported_by(file) == REACHED["a.lazy"] | {"b", "b.three"}

    def test_an_edit_after_the_start_has_no_effect(self, sources: Sources, tmp_path: Path) -> None:
        before = sources.hash(["a.start", "b"])
        write_files(tmp_path, {"a/start.py": "X = 2"})
        assert sources.hash(["a.start", "b"]) == before != Sources(tmp_path, ["a", "b"]).hash(["a.start", "b"])
        assert Sources(tmp_path, ["a", "b"]).hash(["b"]) == sources.hash(["b"])
