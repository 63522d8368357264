"""benchmark/fingerprint.py: the code of datasets, of cells, of plugins and of installed packages."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from support.files import write_files

from benchmark import fingerprint
from benchmark.fingerprint import PROJECT, Code, code_of, running
from methods.registry import DATASETS, METHODS, Registry


class TestCode:
    def test_the_code_of_a_dataset_includes_its_imports(self) -> None:
        phantom, folders = (code_of(DATASETS[name].load()).modules for name in ("phantom", "folders"))
        assert {"benchmark.datasets.phantom", "benchmark.datasets.synthesis.motion", "metrics.fields"} <= phantom
        assert "benchmark.datasets.io.dicom" in folders - phantom
        for name in ("cache", "builtin"):
            assert f"benchmark.datasets.{name}" not in phantom | folders

    def test_a_phantom_uses_only_the_field_operators_and_the_rigid_fit_of_metrics(self) -> None:
        phantom = code_of(DATASETS["phantom"].load()).modules
        assert {m for m in phantom if m.startswith("metrics")} == {"metrics", "metrics.fields", "metrics.procrustes"}

    def test_code_that_stores_and_shows_results_is_no_part_of_a_cell(self) -> None:
        every = running().modules.union(*(code_of(e.load()).modules for e in [*METHODS, *DATASETS]))
        for name in (
            "config", "results.store", "results.pictures", "execution.plan", "execution.runner", "cli.requests",
            "environment", "fingerprint",
        ):  # fmt: skip
            assert f"benchmark.{name}" in PROJECT and f"benchmark.{name}" not in every

    def test_the_code_of_a_plugin_includes_its_imports_from_the_project(self, tmp_path: Path) -> None:
        file = write_files(tmp_path, {"mine.py": "def f():\n    from methods.elastix import names\n"}) / "mine.py"
        code, alone = (
            fingerprint.code_in([file]),
            Code(frozenset({"methods", "methods.elastix", "methods.elastix.names"})),
        )
        assert code.project() == alone.project() != Code().project()
        assert code.outside() and not alone.outside()
        with pytest.raises(FileNotFoundError):
            fingerprint.code_in([tmp_path / "absent.py"])

    def test_the_code_of_an_installed_package_is_its_file_and_version(
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

    def test_the_interpreter_version_changes_the_hash(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = running().everything()
        monkeypatch.setattr(fingerprint, "python_version", lambda: "3.0.0")
        assert running().everything() != before
