"""The `simulate` command: CT and MR pairs with a known displacement, made from one CT."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from rich.console import Console

from benchmark.cli.progress import step
from benchmark.cli.simulated_report import input_notes, motion_size
from benchmark.datasets.folders import write_patient
from benchmark.datasets.io.label_maps import parse_ct_label_map
from benchmark.datasets.io.scan_border import cut_vertebrae
from benchmark.datasets.patients import patient_of_ct, read_labelled_ct
from benchmark.datasets.synthesis.body import crop_to_labels
from benchmark.datasets.synthesis.from_ct import simulate as simulate_pair
from benchmark.datasets.synthesis.poses import RESIDUAL_RANGE_MM
from benchmark.errors import BadInput, check_writable


def simulate(
    ct: Path, labels: Path, out: Path, count: int, seed: int, weighting: str, exact_labels: bool, console: Console,
    label_map: str | None = None, motion_mm: float | None = None,
) -> None:  # fmt: skip
    """Write `count` patients made from one CT and its labels into `out`, in the folder layout of `folders`.

    Args:
        ct: CT in HU.
        labels: vertebra labels on the grid of the CT.
        seed: number of the first patient; the others follow.
        weighting: of the MR, `T1` or `T2`.
        exact_labels: give the MR the moved labels instead of labels with an annotator's error.
        label_map: the scheme of the labels; None for VerSe ids.
        motion_mm: RMS of the vertebrae's motion; None draws it.

    Raises:
        BadInput: for files that cannot be used, or a patient folder that exists.
    """
    if weighting not in ("T1", "T2"):
        raise BadInput(f"--weighting {weighting}: expected T1 or T2")
    lowest, highest = RESIDUAL_RANGE_MM
    if motion_mm is not None and not lowest <= motion_mm <= highest:
        raise BadInput(f"--motion-mm {motion_mm:g}: expected {lowest:g} to {highest:g} mm, the range of patients")
    scheme = _ct_label_map(label_map)
    check_writable(out)
    with step(console, "Reading the files"):
        hu, ids, grid, notes = read_labelled_ct(ct, labels, scheme)
    for note in notes:
        console.print(note, style="yellow", markup=False, soft_wrap=True)
    folders = {seed + i: out / f"simulated-{seed + i:03d}" for i in range(count)}
    for folder in folders.values():
        if folder.exists():
            raise BadInput(f"{folder}: expected a new folder, found it there already; choose another --out or --seed")
    for note in input_notes(ids, grid, cut_vertebrae(ids, hu)):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    hu, ids, grid = crop_to_labels(hu, ids, grid)
    for number, folder in folders.items():
        with step(console, f"{folder.name}, {number - seed + 1} of {count}: motion, MR and its labels"):
            pair = simulate_pair(hu, ids, grid, number, weighting, exact_labels, motion_mm)
        with step(console, f"{folder.name}: writing"):
            write_patient(
                folder, pair.ct_hu, pair.ct_labels, pair.mr, pair.mr_labels, pair.displacement_mm, pair.grid,
                pair.mr_centroids_mm, patient=patient_of_ct(ct), weighting=weighting,
            )  # fmt: skip
        words, doubt = motion_size(pair).describe(motion_mm)
        console.print(f"wrote {folder}: {words}", markup=False, highlight=False, soft_wrap=True)
        if doubt is not None:
            console.print(f"{folder.name}: {doubt}", style="yellow", markup=False, soft_wrap=True)
    arguments = shlex.join(["--dataset", f"folders:{out}", "--out", f"runs/{out.absolute().name}"])
    console.print(f"next: {_program()} run {arguments}", markup=False, highlight=False, soft_wrap=True)


def _program() -> str:
    """This command as it was typed: `rigidbench`, with its folder where it is not on the path, or a script."""
    started = sys.argv[0]
    return shlex.join(["python", started] if started.endswith(".py") else [started])


def _ct_label_map(text: str | None) -> str | None:
    """The label map of the CT, as typed."""
    try:
        return parse_ct_label_map(text)
    except ValueError as error:
        raise BadInput(f"--label-map {text}: {error}") from error
