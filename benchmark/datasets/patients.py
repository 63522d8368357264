"""Reading of a patient's files: checked against each other, with labels in VerSe ids."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import field_validator

from benchmark.datasets.centroid_check import Part, check_centroids, check_inside
from benchmark.datasets.io.centroids import Centroids, read_annotation
from benchmark.datasets.io.hounsfield import ct_doubts
from benchmark.datasets.io.images import check_same_grid, read_displacement, read_grid, read_image, read_labels
from benchmark.datasets.io.label_files import in_verse_ids, read_label_file, read_label_grid
from benchmark.datasets.io.label_maps import LabelMaps, label_map_file, parse_label_maps
from benchmark.datasets.io.landmarks import read_landmarks
from benchmark.datasets.io.scan_border import cut_vertebrae
from benchmark.datasets.io.vertebra_labels import interpret_labels
from benchmark.datasets.label_agreement import compare_labels
from benchmark.datasets.label_grids import check_label_grid, labels_on_image, read_vertebrae
from benchmark.datasets.preprocessing import Modality, Patient, centroids_mm, label_ends_mm
from benchmark.datasets.resampling import crop_grid, isotropic_grid
from benchmark.datasets.vertebral_bodies import bodies_by_cut, bodies_by_subregion
from benchmark.errors import BadInput
from methods.base import Grid, Settings


class Modalities(Settings):
    """What the two scans are: ct (HU), cbct (about HU) or mr (any unit)."""

    fixed: Modality = "mr"
    moving: Modality = "ct"


class LabelSettings(Settings):
    """Settings of datasets that read scans and label files.

    modality: of the fixed and of the moving scan, {fixed: mr, moving: ct} by default; it decides scaling and checks.

    label_map: the scheme of the label files, if it is not VerSe's: totalsegmentator-1, totalsegmentator-2,
        totalsegmentator-mr, spineps, spider or a YAML file; {ct: ..., mr: ...} or `ct=...,mr=...` where the scans have
        different schemes, `verse` being VerSe's.
    evaluate: the part of the labels that is compared; `bodies` for MR labels that are vertebral bodies alone.
    """

    modality: Modalities = Modalities()
    label_map: LabelMaps = None
    evaluate: Literal["vertebrae", "bodies"] = "vertebrae"

    @field_validator("label_map", mode="before")
    @classmethod
    def _parsed(cls, value: object) -> LabelMaps:
        return parse_label_maps(value)

    def label_map_of(self, scan: Literal["ct", "mr"]) -> str | None:
        """Return the name of one scan's label map, or None for VerSe ids."""
        return self.label_map.get(scan) if isinstance(self.label_map, dict) else self.label_map

    def fingerprint(self) -> str:
        """Return the content of the label maps that the settings name."""
        names = {m for m in (self.label_map_of("ct"), self.label_map_of("mr")) if m is not None}
        return " ".join(label_map_file(name).read_text(encoding="utf-8") for name in sorted(names))


@dataclass(frozen=True)
class PatientFiles:
    """Paths of a patient's files.

    The file mr_labels may be absent if pre-alignment does not need it: there are centroids of the MR, or
    labels_optional is True, since the scans are aligned already. notes: doubts about the choice of files.
    """

    ct: Path
    ct_labels: Path
    mr: Path
    mr_labels: Path | None
    ct_subregions: Path | None = None
    ct_centroids: Path | None = None
    mr_centroids: Path | None = None
    landmarks: Path | None = None
    displacement: Path | None = None
    labels_optional: bool = False
    notes: tuple[str, ...] = ()

    @property
    def only_for_training(self) -> bool:
        """Whether the patient can be pre-aligned but not evaluated."""
        return (self.labels_optional or self.mr_centroids is not None) and not self.has_mr_labels

    @property
    def has_mr_labels(self) -> bool:
        """Whether there are labels of the MR."""
        return self.mr_labels is not None and self.mr_labels.exists()


def patient_of_ct(ct: Path) -> str:
    """Name the patient of a CT for statistics: the file's name with its folder's, `sub-01/ct.nii.gz`."""
    return "/".join(ct.expanduser().absolute().parts[-2:])


def read_patient(name: str, files: PatientFiles, settings: LabelSettings, any_structure: bool = False) -> Patient:
    """Read all files of one patient, with labels in VerSe ids.

    Args:
        name: of the patient.
        files: their paths.
        settings: label maps, and the part of the labels that is compared.
        any_structure: the labels need not be vertebrae.

    Raises:
        BadInput: if a file cannot be used or does not fit the others; the message names it.
    """
    ct, ct_grid = read_image(files.ct)
    ct_labels, notes = read_vertebrae(
        files.ct_labels, files.ct, ct_grid, settings.label_map_of("ct"), any_structure, ct
    )
    modality = settings.modality
    if modality.moving == "ct":
        notes += ct_doubts(files.ct, ct, None if any_structure else ct_labels)
    cut = cut_vertebrae(ct_labels, ct)
    mr, mr_grid = read_image(files.mr)
    mr_labels, displacement, bodies = None, None, None
    if files.mr_labels is not None and not files.only_for_training:
        mr_labels, mr_notes = read_vertebrae(
            files.mr_labels, files.mr, mr_grid, settings.label_map_of("mr"), any_structure, mr
        )
        notes += mr_notes
        cut |= cut_vertebrae(mr_labels, mr)
    if modality.fixed == "ct":
        notes += ct_doubts(files.mr, mr, None if any_structure else mr_labels)
    if files.displacement is not None:
        displacement, displacement_grid = read_displacement(files.displacement)
        check_same_grid(files.displacement, displacement_grid, files.mr, mr_grid)
    if settings.evaluate == "bodies":
        bodies = _bodies(files, ct_labels, ct_grid)
    mr_points, ct_points, centroid_notes = _annotated(
        files, (mr_labels, mr_grid), (ct_labels, ct_grid), trusted=displacement is not None
    )
    notes += centroid_notes
    if mr_labels is not None and not any_structure:
        agreement = compare_labels((mr_labels, mr_grid), (ct_labels, ct_grid), bodies, cut)
        notes += tuple(f"{files.mr_labels}, {files.ct_labels.name}: {doubt}" for doubt in agreement.doubts)
        if agreement.body_centroids is not None and files.mr_centroids is None:
            mr_points, ct_points = agreement.body_centroids
    return Patient(
        name, ct, ct_labels, ct_grid, mr, mr_labels, mr_grid,
        mr_centroids=mr_points, displacement_mm=displacement, ct_bodies=bodies, ct_centroids=ct_points,
        landmarks_mm=None if files.landmarks is None else read_landmarks(files.landmarks),
        notes=(*files.notes, *notes), cut=cut, fixed_modality=modality.fixed, moving_modality=modality.moving,
    )  # fmt: skip


def check_headers(files: PatientFiles) -> None:
    """Check that a patient's files exist and that labels are on the grid of their image, by headers alone.

    Raises:
        BadInput: as `read_patient` for the same file.
    """
    check_labels_on(files.ct, files.ct_labels, files.ct_subregions)
    check_labels_on(files.mr, None if files.only_for_training else files.mr_labels)
    if files.displacement is not None:
        grids = read_grid(files.displacement, components=3), read_grid(files.mr)
        if grids[0] is not None and grids[1] is not None:
            check_same_grid(files.displacement, grids[0], files.mr, grids[1])


def check_ids(labels: Path, label_map: str | None) -> None:
    """Check that labels are those of vertebrae, from the label file alone.

    Args:
        labels: the file, or a folder of masks.
        label_map: the scheme of its ids, or None for VerSe ids.

    Raises:
        BadInput: as `read_vertebrae` for the same file.
    """
    stored, grid, _ = read_label_file(labels)
    interpret_labels(labels, stored, grid, label_map)


def check_labels_on(image: Path, *labels: Path | None) -> None:
    """Check by headers that an image exists and that its label files, as far as there are any, are on its grid.

    Raises:
        BadInput: as `read_vertebrae` for the same file.
    """
    reference = read_grid(image)
    for file in (f for f in labels if f is not None):
        grid = read_label_grid(file)
        if grid is not None and reference is not None:
            check_label_grid(file, grid, image, reference)


def moving_voxels(labels: Path, label_map: str | None) -> int | None:
    """Estimate the voxels of a pair's grid from its moving labels; None where they cannot be read.

    The pre-alignment, which may turn the box of the labels a little, is not computed.

    Args:
        labels: the file.
        label_map: the scheme of its ids, or None for VerSe ids.
    """
    try:
        stored, grid, _ = read_label_file(labels)
        ids = in_verse_ids(labels, stored, label_map)
        return math.prod(crop_grid(isotropic_grid(grid), label_ends_mm(ids, grid)).shape)
    except BadInput:
        return None


def read_labelled_ct(
    ct: Path, labels: Path, label_map: str | None = None, modality: Modality = "ct"
) -> tuple[np.ndarray, np.ndarray, Grid, tuple[str, ...]]:
    """Read a CT and its vertebra labels without an MR.

    Args:
        ct, labels: the files.
        label_map: the scheme of the labels, or None for VerSe ids.
        modality: of the scan; another than ct is not compared with HU.

    Returns:
        HU, float32 (z, y, x); VerSe ids, uint16 (z, y, x); their grid; doubts, one sentence each.

    Raises:
        BadInput: if a file cannot be used, or the ids are not those of vertebrae.
    """
    hu, grid = read_image(ct)
    ids, notes = read_vertebrae(labels, ct, grid, label_map, scan=hu)
    return hu, ids, grid, (*notes, *(ct_doubts(ct, hu, ids) if modality == "ct" else ()))


def _bodies(files: PatientFiles, labels: np.ndarray, grid: Grid) -> np.ndarray:
    """The vertebral bodies of the CT, by subregions if there is such a file, else by a cut."""
    if files.ct_subregions is None:
        return bodies_by_cut(labels, grid)
    stored = read_labels(files.ct_subregions)
    subregions, _ = labels_on_image(files.ct_subregions, *stored, files.ct, grid)
    return bodies_by_subregion(files.ct_subregions, subregions, labels)


def _annotated(
    files: PatientFiles, mr: tuple[np.ndarray | None, Grid], ct: tuple[np.ndarray, Grid], trusted: bool
) -> tuple[Centroids | None, Centroids | None, tuple[str, ...]]:
    """The annotated centroids of MR and CT, both of bodies or both of whole vertebrae, and doubts about them.

    mr, ct: labels and grid. trusted: the offset of the MR's centroids from its labels is intended.
    """
    ct_points: Centroids | None = None
    ct_part: Part | None = None
    ct_notes: tuple[str, ...] = ()
    if files.ct_centroids is not None:
        ct_points, ct_of_bodies = read_annotation(files.ct_centroids, ct[1])
        if files.mr_centroids is not None:
            ct_part, ct_notes = _marked_part(files.ct_centroids, ct_points, *ct, ct_of_bodies, trusted)
    if files.mr_centroids is None:
        return None, ct_points, ()
    mr_points, of_bodies = read_annotation(files.mr_centroids, mr[1])
    part, notes = _marked_part(files.mr_centroids, mr_points, *mr, of_bodies, trusted)
    notes += ct_notes
    if part is None:  # annotators mark one part in both scans
        part = ct_part or "vertebrae"
        if ct_part is None and not trusted:
            notes += (
                f"{files.mr_centroids}: taken for points of whole vertebrae, which cannot be checked without labels of "
                "this scan; points of vertebral bodies, some 10 mm in front, belong into VerSe's or TPTBox's format",
            )
    if ct_points is not None:
        if ct_part == part:
            return mr_points, ct_points, notes
        notes += (f"{files.ct_centroids}: points mark {ct_part}, those of the fixed scan {part}; not used",)
        ct_points = None
    if part == "bodies":
        ct_points = centroids_mm(_bodies(files, *ct), ct[1])
        notes += (
            f"{files.mr_centroids}: points mark vertebral bodies; pre-aligned on the bodies of the moving labels",
        )
    return mr_points, ct_points, notes


def _marked_part(
    path: Path, points: Centroids, labels: np.ndarray | None, grid: Grid, of_bodies: bool, trusted: bool
) -> tuple[Part | None, tuple[str, ...]]:
    """The part of vertebrae that annotated points mark, None for unknown, and doubts. of_bodies: by their format."""
    if labels is not None:
        return check_centroids(path, points, labels, grid, trusted)
    check_inside(path, points, grid)
    return "bodies" if of_bodies else None, ()
