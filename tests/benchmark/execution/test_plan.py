"""The plan of a run: fingerprints, stale cells, and requests that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.small_runs import Recorder, run_tiny, tiny_config

from benchmark.config import make_config
from benchmark.errors import BadInput
from benchmark.execution.plan import changes, load_checked, make_plan, refused_at_first
from benchmark.execution.runner import RunOptions, run
from methods.base import Case
from methods.registry import DATASETS, METHODS, METRICS, PENALTIES, load_plugin


def test_tasks_are_in_the_order_of_rows_and_cases(tiny: Path) -> None:
    tasks = make_plan(tiny_config(tiny, ["true-shift", "initial"])).tasks(["one", "two"])
    assert [(t.row, t.case) for t in tasks] == [
        ("true-shift@cpu", "one"), ("true-shift@cpu", "two"), ("initial@cpu", "one"), ("initial@cpu", "two"),
    ]  # fmt: skip


def test_reports_draw_the_field_of_the_first_case(tiny: Path) -> None:
    tasks = make_plan(tiny_config(tiny, ["initial"])).tasks(["one", "two"])
    assert [(t.case, t.display) for t in tasks] == [("one", True), ("two", False)]


def test_refused_cases_before_the_first_usable_one_are_named(tiny: Path) -> None:
    load = DATASETS.create("tiny").load
    assert list(refused_at_first(load, ["broken", "odd", "one", "broken"])) == ["broken", "odd"]
    with pytest.raises(BadInput, match="none of 2 patients is usable; the first: broken: expected a patient"):
        refused_at_first(load, ["broken", "odd"])


def test_any_error_of_a_loader_names_the_case(tiny: Path) -> None:
    with pytest.raises(BadInput, match="odd: KeyError: 'a header'"):
        load_checked(DATASETS.create("tiny").load, "odd")


def test_a_case_without_fixed_labels_is_refused(tiny: Path) -> None:
    class Unlabelled(DATASETS["tiny"].load()):
        def load(self, case: str) -> Case:
            return Case(super().load(case).pair.blind(case))

    with pytest.raises(BadInput, match="one: expected labels of the fixed scan, found none; leave the patient out"):
        load_checked(Unlabelled("tiny").load, "one")


@pytest.mark.parametrize(("on_stale", "repeated"), [("redo", 2), ("keep", 0)])
def test_cells_of_other_settings_are_redone_kept_or_refused(
    tiny: Path, tmp_path: Path, on_stale: str, repeated: int
) -> None:
    run_tiny(tiny, tmp_path / "run", ["true-shift"])
    _, again = run_tiny(tiny, tmp_path / "run", ["true-shift"], seed=1, options=RunOptions(on_stale))
    assert len(again.cells) == repeated
    assert again.notices[0].startswith("true-shift@cpu: 2 made with other settings: ")
    with pytest.raises(BadInput, match="true-shift@cpu on one was made with other settings; choose --on-stale redo or"):
        run_tiny(tiny, tmp_path / "run", ["true-shift"], seed=2, options=RunOptions("fail"))


def test_an_edited_plugin_makes_the_rows_that_it_can_change_stale(tiny: Path, tmp_path: Path) -> None:
    """A method's file: its row. A column's file and a file of unknown effect: every row. A penalty's file: none."""
    register = "from methods.registry import METHODS, METRICS, PENALTIES\nfrom methods.initial import Initial\n"
    files = {
        "a_method": "METHODS.add('of-a-file', Initial)",
        "a_column": "METRICS.add('a_column', lambda m: 0, {'per': 'case'})",
        "a_penalty": "PENALTIES.add('of_a_file', lambda w: 0)", "unknown": "print()",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(register + text + "\n")
        load_plugin(tmp_path / f"{name}.py")
    expected = {"a_method": {"of-a-file"}, "a_penalty": set(), "a_column": {"initial", "of-a-file"},
                "unknown": {"initial", "of-a-file"}}  # fmt: skip

    def fingerprints(plugins: list[Path]) -> dict[str, str]:
        config = tiny_config(tiny, ["initial", "of-a-file"], plugins=[str(p) for p in [tiny, *plugins]])
        return {t.method.name: t.fingerprint for t in make_plan(config).tasks(["one"])}

    try:
        for name, rows in expected.items():
            file = tmp_path / f"{name}.py"
            before = fingerprints([file])
            file.write_text(file.read_text() + "# edited\n")
            assert fingerprints([file]) == before, f"{name}: a comment"
            file.write_text(file.read_text() + "EDITED = 1\n")
            after = fingerprints([file])
            assert {row for row in before if before[row] != after[row]} == rows, name
            assert {changes(before[row], after[row]) for row in rows} <= {"plugin"}
    finally:
        for registry in (METHODS, METRICS, PENALTIES):
            for entry in [e for e in registry if str(tmp_path) in e.origin]:
                del registry._added[entry.name]


def test_changed_parts_of_a_fingerprint_are_named() -> None:
    assert changes("a.b.c.d.e.f.g", "a.x.c.d.e.f.y") == "weights or package, code"
    assert changes("0123456789abcdef", "a.b.c.d.e.f.g") == "rigidbench version", "of a run made before"


def test_a_missing_file_in_the_settings_is_refused(tmp_path: Path) -> None:
    row = {"method": "staring", "name": "mine", "settings": {"parameters": "absent.txt"}}
    for dataset, methods, line in (
        ({"name": "phantom"}, [row], "method mine: .*absent.txt"),
        ({"name": "phantom", "settings": {"splits": "absent"}}, ["initial"], "absent.json: expected a JSON object"),
    ):
        with pytest.raises(BadInput, match=line):
            run(make_config({"dataset": dataset, "methods": methods}, "test"), tmp_path / "run", Recorder())
    assert not (tmp_path / "run").exists()
