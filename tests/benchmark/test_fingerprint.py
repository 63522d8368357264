"""Which source decides a result: hand-built packages and real worker processes."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from support.files import write_files

from benchmark import fingerprint
from benchmark.config import make_config
from benchmark.execution.plan import make_plan
from benchmark.execution.worker import Worker, WorkerSpec
from benchmark.fingerprint import PROJECT, Code, Sources, code_of, running, syntax_hash
from methods.registry import DATASETS, METHODS, Registry

ROOT = Path(__file__).resolve().parents[2]


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
    def test_what_cannot_change_a_result_leaves_the_hash(self, hashed: Any, edit: str) -> None:
        assert SAME[edit] != BEFORE
        assert hashed(SAME[edit]) == hashed(BEFORE)

    def test_how_a_metric_is_printed_leaves_the_hash_and_what_it_counts_does_not(self, hashed: Any) -> None:
        metric = """
            @METRICS.register("gap_mm", per="vertebra", unit="mm", title="Gap", better="lower")
            def gap_mm(e):
                return e.gaps
        """
        assert hashed(metric.replace('"Gap"', '"Distance"').replace('unit="mm", ', "")) == hashed(metric)
        assert hashed(metric.replace('per="vertebra"', 'per="case"')) != hashed(metric)
        assert hashed(metric.replace("gap_mm", "gaps_mm")) != hashed(metric)

    @pytest.mark.parametrize("edit", OTHER)
    def test_what_can_change_a_result_changes_the_hash(self, hashed: Any, edit: str) -> None:
        assert OTHER[edit] != BEFORE
        assert hashed(OTHER[edit]) != hashed(BEFORE)

    def test_the_body_of_type_checking_does_not_count(self, hashed: Any) -> None:
        guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {}\nelse:\n    x = {}\n"
        assert hashed(guarded.format("os", 1)) == hashed(guarded.format("sys", 1)) != hashed(guarded.format("os", 2))

    def test_another_file_counts_by_content(self, tmp_path: Path) -> None:
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

    def test_several_modules_reach_what_each_does(self, sources: Sources) -> None:
        assert sources.reached(["a.typed", "b.three"]) == REACHED["a.typed"] | REACHED["b.three"]

    def test_a_module_that_is_not_there_is_an_error(self, sources: Sources) -> None:
        for ask in (sources.reached, sources.hash):
            with pytest.raises(FileNotFoundError, match=r"module a\.nowhere"):
                ask(["a.nowhere"])
        with pytest.raises(FileNotFoundError, match=r"module a\.nowhere"):
            sources.reached(["a.broken"])
        with pytest.raises(FileNotFoundError, match=r"module c\b"):
            sources.within("c")

    def test_a_package_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="package c"):
            Sources(tmp_path, ["c"])

    def test_the_modules_of_a_package(self, sources: Sources) -> None:
        assert sources.within("a.deep") == {"a.deep", "a.deep.one", "a.deep.far"}

    def test_a_file_from_elsewhere_reaches_what_it_imports(self, sources: Sources) -> None:
        file = b"import numpy\nfrom a import lazy, nothing\nfrom .b import x\ndef f():\n    import b.three\n"
        assert sources.imported_by(file) == REACHED["a.lazy"] | {"b", "b.three"}

    def test_an_edit_after_the_start_does_not_count(self, sources: Sources, tmp_path: Path) -> None:
        before = sources.hash(["a.start", "b"])
        write_files(tmp_path, {"a/start.py": "X = 2"})
        assert sources.hash(["a.start", "b"]) == before != Sources(tmp_path, ["a", "b"]).hash(["a.start", "b"])
        assert Sources(tmp_path, ["a", "b"]).hash(["b"]) == sources.hash(["b"])


class TestCode:
    def test_a_dataset_counts_with_what_it_imports(self) -> None:
        phantom, folders = (code_of(DATASETS[name].load()).modules for name in ("phantom", "folders"))
        assert {"benchmark.datasets.phantom", "benchmark.datasets.synthesis.motion", "metrics.fields"} <= phantom
        assert "benchmark.datasets.io.dicom" in folders - phantom
        for name in ("cache", "builtin"):
            assert f"benchmark.datasets.{name}" not in phantom | folders

    def test_what_keeps_and_shows_results_is_no_part_of_a_cell(self) -> None:
        every = running().modules.union(*(code_of(e.load()).modules for e in [*METHODS, *DATASETS]))
        for name in (
            "config", "results.store", "results.pictures", "execution.plan", "execution.runner", "cli.requests",
            "environment", "fingerprint",
        ):  # fmt: skip
            assert f"benchmark.{name}" in PROJECT and f"benchmark.{name}" not in every

    def test_a_plugin_counts_with_what_it_imports_from_the_project(self, tmp_path: Path) -> None:
        file = write_files(tmp_path, {"mine.py": "def f():\n    from methods.bones import chain\n"}) / "mine.py"
        code, alone = (
            fingerprint.code_in([file]),
            Code(frozenset({"methods", "methods.bones", "methods.bones.chain"})),
        )
        assert code.project() == alone.project() != Code().project()
        assert code.outside() and not alone.outside()
        with pytest.raises(FileNotFoundError):
            fingerprint.code_in([tmp_path / "absent.py"])

    def test_an_installed_package_counts_by_its_file_and_its_version(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_files(tmp_path, {"offered.py": "from methods.initial import Initial\nclass Mine(Initial):\n    pass\n"})
        monkeypatch.syspath_prepend(str(tmp_path))
        registry = Registry("method", "rigidbench.test-methods")
        monkeypatch.setattr("methods.registry._current_origin", "package numpy")
        registry.add("mine", "offered:Mine")
        code = code_of(registry["mine"].load(), package=registry["mine"].package)
        assert code.files == {tmp_path / "offered.py"} and code.versions == {f"numpy {version('numpy')}"}
        before = code.outside()
        monkeypatch.setattr(fingerprint, "version", lambda package: "0.0")
        assert code_of(registry["mine"].load(), package="numpy").outside() != before

    def test_the_interpreter_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = running().everything()
        monkeypatch.setattr(fingerprint, "python_version", lambda: "3.0.0")
        assert running().everything() != before


LOOKER = '''
    import sys
    from pathlib import Path

    from methods.base import Method, Registration
    from methods.registry import METHODS, create_method


    @METHODS.register("looker")
    class Looker(Method):
        """Another row, and at its end the files of all modules that the process has imported."""

        def __init__(self, looker, **row):
            self.name, self.row = looker, create_method(**row)
            self.settings = self.Settings()

        def prepare(self, device, threads, seed):
            self.row.prepare(device, threads, seed)

        def unavailable(self, device):
            return self.row.unavailable(device)

        def register(self, pair):
            done = self.row.register(pair)
            files = {str(getattr(m, "__file__", None) or "") for m in list(sys.modules.values())}
            return Registration(done.displacement_mm, {"files": "|".join(sorted(files))})
'''


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        ("initial", {}),
        ("pc", {}),
        ("staring-fast", {"changes": {"MaximumNumberOfIterations": 2, "NumberOfResolutions": 1}}),
        ("polyrigid", {}),
    ],
)
def test_every_module_that_a_worker_imports_is_found(
    row: str, settings: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    reason = METHODS.create(row).unavailable("cpu")
    if reason:
        pytest.skip(reason)
    plugin = write_files(tmp_path, {"looker.py": LOOKER}) / "looker.py"
    pair = DATASETS.create("tiny").load("one").pair.blind("token")
    worker = Worker(WorkerSpec("looker", {"name": row, "settings": settings}, "cpu", 1, 0, 1, (str(plugin),)), 120)
    try:
        files = worker.register(pair)[0].notes["files"].split("|")
    finally:
        worker.close()
    folders = [ROOT / package for package in PROJECT.packages]
    paths = [Path(f) for f in files if f and any(Path(f).is_relative_to(folder) for folder in folders)]
    imported = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in paths}
    # The catalogue's own entries: what they say of the row is in its fingerprint by its factory and its settings.
    catalogue = {"methods.builtin", "methods.voxelmorph", "methods.voxelmorph.variants"}
    config = make_config({"dataset": {"name": "tiny"}, "methods": [row], "threads": 1}, "test")
    plan = make_plan(config)
    (m,) = config.methods
    hashed = plan.code_of_cells(m, METHODS.create(m.method, m.settings)).modules
    assert METHODS[row].factory.partition(":")[0] in imported, "the test looks at the wrong files"
    assert imported - catalogue <= hashed
