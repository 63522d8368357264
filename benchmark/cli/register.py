"""The `register` command: one pair of files through one method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
from rich.console import Console
from scipy.spatial.transform import Rotation

from benchmark.cli.measures_table import print_measures
from benchmark.cli.progress import step
from benchmark.cli.registered_files import OutputGrid, warp_files, write_files
from benchmark.cli.requests import load_plugins
from benchmark.datasets import preprocessing
from benchmark.datasets.patients import LabelSettings, PatientFiles, read_patient
from benchmark.datasets.preprocessing import Patient, alignment, preprocess, without_alignment
from benchmark.datasets.resampling import MARGIN_MM
from benchmark.errors import BadInput, check_writable
from benchmark.evaluation import label_tensor
from benchmark.execution.resources import usable_cores
from benchmark.execution.worker import CellError, Worker, WorkerSpec
from benchmark.results import pictures
from benchmark.results.scans import Scans, scans_of
from methods.base import Case, Method, Pair, Registration, vertebra_ids
from methods.geometry import to_voxels
from methods.registry import create_method
from methods.vertebrae import vertebra_name
from methods.voxelmorph.method import VoxelMorph
from metrics.label_warping import warp_labels

TIME_LIMIT_S = 6 * 3600
# Shares of the moving labels' volume in the fixed scan's field of view.
REFUSED_SHARE, DOUBTFUL_SHARE = 0.05, 0.5


@dataclass(frozen=True)
class PairFiles:
    """Files of one pair.

    Attributes:
        fixed, moving: the two scans.
        moving_labels: vertebra labels on the grid of `moving`.
        fixed_labels: those of the fixed scan on its grid, for the measures; or None.
        fixed_centroids: annotated centroids of it, for pre-alignment; None for a pair that is aligned already.
        settings: label maps, the part that is compared, and the modality of both scans, which decides their scaling.
    """

    fixed: Path
    moving: Path
    moving_labels: Path
    fixed_labels: Path | None = None
    fixed_centroids: Path | None = None
    settings: LabelSettings = field(default_factory=LabelSettings)


@dataclass(frozen=True)
class Slices:
    """The content of a quality picture: arrays of the pair and of the result, as `benchmark.results.pictures` has them.

    scans: the names of the two scans.
    """

    pair: dict[str, np.ndarray]
    result: dict[str, np.ndarray]
    scans: Scans


def register(
    method: str, files: PairFiles, out: Path, device: str, grid: str, plugins: Sequence[Path], console: Console
) -> Slices:
    """Register a moving to a fixed scan, write the result into `out`, and print the measures if there are fixed labels.

    The method gets both scans at 1 mm around the labels. The files are warped once, through the composed transform.

    Args:
        method: name of the method.
        files: of the pair.
        out: the folder.
        device: cpu or cuda.
        grid: of the written images: `fixed`, that of the fixed scan, or `1mm`, that of the methods.
        plugins: Python files.
        console: receives the names of the files and the measures.

    Raises:
        BadInput: for an option, a method or a file that cannot be used, or where the method gives no result.
    """
    if grid not in get_args(OutputGrid):
        raise BadInput(f"--grid {grid}: expected fixed or 1mm")
    load_plugins(plugins)
    try:
        row = create_method(method)
    except (ValueError, TypeError) as error:
        raise BadInput(f"--method {method}: {' '.join(str(error).split())}") from error
    check_writable(out)
    for name in phantom_networks(row):
        console.print(f"{name}: its weights were trained on phantoms alone and have not been measured on patients; "
                      "deformable-pc+oc needs no training", style="yellow", markup=False, soft_wrap=True)  # fmt: skip
    with step(console, "Reading the files"):
        patient, case = _read_pair(files, console)
    with step(console, f"Registering with {method}"):
        registration = _run_method(method, case.pair.blind("pair"), device, plugins)
    if "warning" in registration.notes:
        console.print(f"{method}: {registration.notes['warning']}", style="yellow", markup=False, soft_wrap=True)
    onto = patient.mr_grid if grid == "fixed" else case.pair.grid
    with step(console, "Warping the files"):
        warped = warp_files(patient, registration, case.pair.grid, alignment(patient), onto)
        written = write_files(out, warped, _stem(files.fixed), _stem(files.moving))
    for file in written:
        console.print(f"wrote {file}", markup=False, soft_wrap=True)
    labels = _warped_labels(case.pair, registration)
    if case.pair.fixed.labels is not None:
        print_measures(case, registration, console)
    scans = scans_of(case.pair.fixed.modality, case.pair.moving.modality)
    return Slices(pictures.of_case(case), pictures.of_cell(case, labels, registration, with_field=False), scans)


def phantom_networks(method: Method) -> list[str]:
    """The names of the networks in a method, its own and those that it starts from, which know phantoms alone.

    Args:
        method: a row. The cards beside the weights tell the data of their training.
    """
    found = []
    for row in (method, *map(create_method, method.uses)):
        card = row.weights.with_suffix(".json") if isinstance(row, VoxelMorph) else None
        if card is not None and card.is_file():
            data = json.loads(card.read_text(encoding="utf-8"))["data"]
            found += [row.name] if data["dataset"] == "phantom" else []
    return found


def _read_pair(files: PairFiles, console: Console) -> tuple[Patient, Case]:
    """The pair as stored, and as the methods see it."""
    for optional in (files.fixed_labels, files.fixed_centroids):
        if optional is not None and not optional.exists():
            raise BadInput(f"{optional}: expected a file, found nothing; check the name")
    paths = PatientFiles(
        files.moving, files.moving_labels, files.fixed, files.fixed_labels, mr_centroids=files.fixed_centroids,
        labels_optional=True,
    )  # fmt: skip
    patient = read_patient("pair", paths, files.settings)
    for note in patient.notes:
        console.print(note, style="yellow", markup=False, soft_wrap=True)
    guide = files.fixed_centroids or files.fixed_labels
    if guide is None:
        patient = without_alignment(patient)
        _check_overlap(files, patient)
    try:
        case = preprocess(patient)
        to_fixed = alignment(patient).inverse()
    except BadInput as error:
        raise BadInput(f"{files.fixed}, {files.moving}: {error}") from error
    if guide is not None:
        centre = preprocessing.label_ends_mm(patient.ct_labels, patient.ct_grid).mean(axis=0)
        shift, turn = np.linalg.norm(to_fixed(centre) - centre), Rotation.from_matrix(to_fixed.rotation).magnitude()
        points = "centroids" if guide == files.fixed_centroids else "centroids of the labels"
        console.print(
            f"pre-aligned rigidly on the {points} in {guide}: {shift:.1f} mm, {np.degrees(turn):.1f} degrees",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    doubt = _view_doubt(files, case.pair, guide is not None)
    if doubt is not None:
        console.print(doubt, style="yellow", markup=False, soft_wrap=True)
    return patient, case


def _view_doubt(files: PairFiles, pair: Pair, pre_aligned: bool) -> str | None:
    """A doubt about a pair most of whose moving labels lie outside of what the fixed scan saw, or None.

    A CT of the whole spine and an MR of a part of it have a small common volume too: a pair is refused only if no
    vertebra has half of its volume in the fixed scan's field of view.

    Raises:
        BadInput: if hardly anything of the moving labels lies there.
    """
    labels, inside = pair.moving.labels, pair.fixed.inside
    if inside is None or labels is None:
        return None
    share = float(inside[labels > 0].mean())
    seen = [v for v in vertebra_ids(labels) if inside[labels == v].mean() >= DOUBTFUL_SHARE]
    found = f"{100 * share:.0f} % of the volume of {files.moving_labels} lies in the field of view of {files.fixed}"
    step = (
        "check that both files are of one patient"
        if pre_aligned
        else "align them first, or give --fixed-centroids or --fixed-labels"
    )
    if share < REFUSED_SHARE and not seen:
        raise BadInput(f"{files.fixed}: expected a scan that covers the moving labels; {found}; {step}")
    if share >= DOUBTFUL_SHARE:
        return None
    whole = ", ".join(map(vertebra_name, seen)) or "no vertebra"
    return f"{found} ({whole} at least by half); if they should overlap more, {step}"


def _check_overlap(files: PairFiles, patient: Patient) -> None:
    """Refuse a fixed scan that lies farther from the moving labels than the methods' grid reaches."""
    points = preprocessing.label_ends_mm(patient.ct_labels, patient.ct_grid)
    index = patient.mr_grid.to_indices_xyz(points)
    margin = MARGIN_MM / np.array(patient.mr_grid.spacing_mm)
    size = np.array(patient.mr_grid.shape[::-1])
    if not ((index >= -margin) & (index <= size - 1 + margin)).all(axis=1).any():
        raise BadInput(
            f"{files.fixed}: expected a scan that covers the labels of {files.moving_labels}, found no overlap; "
            "align them first, or give --fixed-centroids or --fixed-labels"
        )


def _run_method(method: str, pair: Pair, device: str, plugins: Sequence[Path]) -> Registration:
    """The method's result, from a process of its own as in a run."""
    worker = None
    try:
        spec = WorkerSpec(method, {}, device, usable_cores(), 0, 1, tuple(map(str, plugins)))
        worker = Worker(spec, TIME_LIMIT_S)
        registration, _ = worker.register(pair)
    except CellError as error:
        raise BadInput(f"{method} gave no result ({error.status}): {error}") from error
    finally:
        if worker is not None:
            worker.close()
    return registration


def _warped_labels(pair: Pair, registration: Registration) -> np.ndarray:
    """The warped labels on the methods' grid, uint16 (z, y, x)."""
    labels = label_tensor(pair.moving.labels)
    warped = warp_labels(labels, to_voxels(registration.displacement_mm, pair.grid), list(vertebra_ids(labels.numpy())))
    return warped.numpy().astype(np.uint16)


def _stem(path: Path) -> str:
    """The name of an image without its ending."""
    return path.name.removesuffix(".gz").rpartition(".")[0] or path.name
