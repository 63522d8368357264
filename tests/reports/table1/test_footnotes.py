"""The notes of Table 1: what is missing, which conventions hold, and when times are comparable."""

from __future__ import annotations

from reports.table1.footnotes import comparisons, footnotes
from reports.table1.render import markdown
from reports.table1.sheet import make_sheet
from reports.table1.values import table1


def test_missing_cells_of_one_of_several_seeds_name_the_seed(two_patients):
    for case in ("a", "b"):
        two_patients.cell("oc", case, {20: (0.6, 0.95, 3.0)})
    two_patients.cell("oc", "a", {}, seed=1, status="unavailable", error="no weights")
    text = markdown([make_sheet(two_patients.data())], "a CPU")
    assert "- oc@cpu seed 1: 1 patient (a) unavailable: no weights" in text
    assert "- oc@cpu seed 1: 1 patient (b) not run" in text and "oc@cpu seed 0" not in text


def test_a_device_that_a_method_cannot_use_is_a_note_but_a_method_that_cannot_run_is_missing(two_patients):
    for case in ("a", "b"):
        two_patients.cell("voxelmorph", case, {}, device="cuda", status="unavailable", error="no GPU")
    text = markdown([make_sheet(two_patients.data())], "a CPU")
    assert "Incomplete" not in text
    assert "- Not available here: voxelmorph@cuda: no GPU." in text
    for case in ("a", "b"):
        two_patients.cell("staring", case, {}, status="unavailable", error="no elastix")
    text = markdown([make_sheet(two_patients.data())], "a CPU")
    assert "- staring@cpu: 2 patients (a, b) unavailable: no elastix" in text


def test_the_notes_name_the_conventions_and_the_identity_beside_initial(two_patients):
    text = markdown([make_sheet(two_patients.data(), with_paper=True)], "a CPU")
    for part in (
        "hard labels",
        "1e-9",
        "+ 3",
        "2 voxels at each side",
        "SSD-closest rigid fit",
        "phantoms",
        "config.yaml",
        "n - 1",
    ):
        assert part in text
    assert "rigid DSC 1.00(0.00), %Δvol 0.00(0.00)" in text


def test_notes_say_what_only_some_runs_need(two_patients):
    two_patients.pair("b", 24, (0.0, 0.0, 90.0), excluded_reason="under 500 voxels")
    for seed in (0, 1):
        two_patients.cell("oc", "a", {20: (0.7, 0.8, 1.0)}, seed=seed, seconds=9.0, contended=True)
    text = markdown([make_sheet(two_patients.data())], "a CPU")
    assert "1 of 4 vertebrae are excluded from every row (under 500 voxels: 1)" in text
    assert "up to 2 seeds" in text
    assert "No time for oc" in text


def test_the_gain_over_initial_is_given_by_patient(two_patients):
    # a: (0.2 + 0.2) / 2, b: 0.2.
    text = markdown([make_sheet(two_patients.data())], "a CPU")
    assert "- VoxelMorph: +0.200 (2 patients, no interval from fewer than 6)" in text


def test_six_patients_have_an_interval(empty):
    for i in range(6):
        empty.pair(f"p{i}", 20, (0.5, 0.9, 4.0))
        empty.cell("voxelmorph", f"p{i}", {20: (0.7, 0.9, 5.0)})
    assert comparisons(empty.data()) == ["VoxelMorph: +0.200 [+0.200, +0.200] (6 patients)"]


def test_times_from_few_patients_are_named(ten_patients):
    for i in range(10):
        ten_patients.cell("staring", f"p{i}", {20: (0.9, 0.9, 1.0)}, seconds=100.0, contended=i > 2)
    found = [note for note in footnotes(ten_patients.data(), with_paper=False) if note.startswith("Times from")]
    assert found == ["Times from fewer than 6 patients, which support no claim on speed: Staring (3)."]


def test_a_fold_does_not_rule_the_median(empty):
    for i, sd in enumerate((0.1, 0.12, 0.14, 0.13, 9.0)):
        empty.pair(f"p{i}", 20, (0.5, 0.9, 4.0))
        empty.cell("voxelmorph", f"p{i}", {20: (0.7, 0.9, 5.0)}, sd_log_jacobian=sd)
    data = empty.data()
    assert table1(data)["sd_log_jacobian_median"].iloc[1] == 0.13
    found = [note for note in footnotes(data, with_paper=False) if note.startswith("SD log|J|, median")]
    assert found == ["SD log|J|, median over patients, which single folds do not rule: VoxelMorph 0.13."]


def test_cases_of_one_patient_are_counted_in_title_and_notes(empty):
    for i in range(4):
        empty.pair(f"p{i}", 20, (0.5, 0.9, 4.0), group="spine")
        empty.cell("voxelmorph", f"p{i}", {20: (0.7, 0.9, 5.0)})
    sheet = make_sheet(empty.data())
    assert sheet.title == "Table 1: phantom, test split, 4 vertebrae of 4 cases of 1 patient"
    assert sheet.printed.heads[-1] == "Cases"
    assert any(note.startswith("The 4 cases are of 1 patient. Means are over cases;") for note in sheet.notes)


def test_rows_with_other_threads_are_named_since_their_times_are_not_comparable(two_patients):
    for i, (method, threads) in enumerate((("pc", 1), ("oc", 1), ("staring", 2))):
        two_patients.cell(method, "a", {20: (0.7, 0.8, 1.0)}, seconds=1.0 + i, threads=threads)
    notes = make_sheet(two_patients.data()).notes
    assert "Times are not comparable: Staring had 2 threads, the other rows had 1 thread." in notes
    two_patients.cell("oc", "b", {20: (0.7, 0.8, 1.0)}, seconds=9.0, threads=4, contended=True)  # no time that counts
    two_patients.cell("staring", "b", {20: (0.7, 0.8, 1.0)}, seconds=1.0, threads=1)
    notes = make_sheet(two_patients.data()).notes
    assert "Times are not comparable: Staring had 1 to 2 threads, the other rows had 1 thread." in notes


def test_cells_of_several_machines_are_named_since_their_times_are_not_comparable(two_patients):
    for method, machine in (("pc", "A"), ("oc", "B"), ("staring", None)):
        two_patients.cell(method, "a", {20: (0.7, 0.8, 1.0)}, seconds=1.0, machine=machine)
    notes = make_sheet(two_patients.data()).notes
    assert "Times are not comparable: cells ran on A, B, a machine that was not recorded." in notes


def test_rows_of_as_many_threads_need_no_such_note(two_patients):
    for method in ("pc", "oc"):
        two_patients.cell(method, "a", {20: (0.7, 0.8, 1.0)}, seconds=1.0, threads=2)
    assert not any("threads" in note for note in make_sheet(two_patients.data()).notes)


def test_a_note_explains_the_marks(ten_patients):
    def note(run) -> str:
        return make_sheet(run.data()).notes[-1]

    assert "⁺ better, ⁻ worse than VoxelMorph: Wilcoxon's signed-rank test on the means of 10 patients" in note(
        ten_patients
    )
    assert "too few" not in note(ten_patients)
    assert "hold for the trainings of this run only" in note(ten_patients)


def test_a_note_tells_that_few_patients_cannot_reach_significance(two_patients):
    two_patients.cell("oc", "a", {20: (0.7, 0.8, 1.0), 21: (0.7, 0.8, 1.0)})
    two_patients.cell("oc", "b", {20: (0.7, 0.8, 1.0)})
    assert "With 2 patients no p can be that small." in make_sheet(two_patients.data()).notes[-1]


def test_the_paper_s_modalities_are_named_where_the_run_has_others(empty):
    empty.pair("a", 20, (0.6, 0.9, 1.0), dataset="folders", fixed_modality="mr", moving_modality="mr")
    empty.cell("oc", "a", {20: (0.7, 0.8, 1.0)}, dataset="folders")
    (note,) = [note for note in footnotes(empty.data(), with_paper=True) if note.startswith("Paper: ")]
    assert "not those of this run (MR to MR, the paper's CT to MR)" in note


def test_networks_that_know_phantoms_alone_are_named_where_the_run_has_other_scans(empty):
    empty.pair("a", 20, (0.6, 0.9, 1.0), dataset="folders")
    empty.cell("oc", "a", {20: (0.7, 0.8, 1.0)}, dataset="folders")
    assert any("trained on phantoms alone" in note for note in footnotes(empty.data(), with_paper=False))


def test_networks_that_know_phantoms_are_no_doubt_on_phantoms(two_patients):
    assert not any("trained on phantoms alone" in note for note in footnotes(two_patients.data(), with_paper=False))
