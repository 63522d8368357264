"""Reading of a patient's files: checked against each other, with labels in VerSe ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmark.datasets.io.centroids import Centroids, read_centroids, read_verse_centroids
from benchmark.datasets.io.images import check_same_grid, read_displacement, read_image, read_labels
from benchmark.datasets.io.label_maps import label_map_file, translate
from benchmark.datasets.io.landmarks import read_landmarks
from benchmark.datasets.preprocessing import Patient
from benchmark.datasets.vertebral_bodies import bodies_by_cut, bodies_by_subregion
from methods.base import Grid, Settings

VERSE_CENTROIDS = "_ctd.json"  # the end of the file name; other centroid files are in LPS mm


class LabelSettings(Settings):
    """Settings of datasets that read label files.

    label_map: the scheme of the label files, if it is not VerSe's: totalsegmentator, spineps, spider or a YAML file;
        {ct: ..., mr: ...} for one scan alone.
    evaluate: the part of the labels that is compared; `bodies` for MR labels that are vertebral bodies alone.
    """

    label_map: str | dict[Literal["ct", "mr"], str] | None = None
    evaluate: Literal["vertebrae", "bodies"] = "vertebrae"

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
    labels_optional is True, since the scans are aligned already.
    """

    ct: Path
    ct_labels: Path
    mr: Path
    mr_labels: Path
    ct_subregions: Path | None = None
    ct_centroids: Path | None = None
    mr_centroids: Path | None = None
    landmarks: Path | None = None
    displacement: Path | None = None
    labels_optional: bool = False

    @property
    def only_for_training(self) -> bool:
        """Whether the patient can be pre-aligned but not evaluated."""
        return (self.labels_optional or self.mr_centroids is not None) and not self.mr_labels.exists()


def read_patient(name: str, files: PatientFiles, settings: LabelSettings) -> Patient:
    """Read all files of one patient, with labels in VerSe ids.

    Args:
        name: of the patient.
        files: their paths.
        settings: label maps, and the part of the labels that is compared.

    Raises:
        BadInput: if a file cannot be used or does not fit the others; the message names it.
    """
    ct, ct_grid = read_image(files.ct)
    ct_labels = _labels(files.ct_labels, files.ct, ct_grid, settings.label_map_of("ct"))
    mr, mr_grid = read_image(files.mr)
    mr_labels, displacement, bodies = None, None, None
    if not files.only_for_training:
        mr_labels = _labels(files.mr_labels, files.mr, mr_grid, settings.label_map_of("mr"))
    if files.displacement is not None:
        displacement, displacement_grid = read_displacement(files.displacement)
        check_same_grid(files.displacement, displacement_grid, files.mr, mr_grid)
    if settings.evaluate == "bodies":
        bodies = _bodies(files, ct_labels, ct_grid)
    return Patient(
        name, ct, ct_labels, ct_grid, mr, mr_labels, mr_grid,
        mr_centroids=_centroids(files.mr_centroids, mr_grid), displacement_mm=displacement, ct_bodies=bodies,
        ct_centroids=_centroids(files.ct_centroids, ct_grid),
        landmarks_mm=None if files.landmarks is None else read_landmarks(files.landmarks),
    )  # fmt: skip


def _labels(path: Path, image: Path, image_grid: Grid, label_map: str | None) -> np.ndarray:
    """The labels of an image, in VerSe ids, on its grid."""
    labels, grid = read_labels(path)
    check_same_grid(path, grid, image, image_grid)
    return labels if label_map is None else translate(path, labels, label_map)


def _bodies(files: PatientFiles, labels: np.ndarray, grid: Grid) -> np.ndarray:
    """The vertebral bodies of the CT, by subregions if there is such a file, else by a cut."""
    if files.ct_subregions is None:
        return bodies_by_cut(labels, grid)
    subregions, subregions_grid = read_labels(files.ct_subregions)
    check_same_grid(files.ct_subregions, subregions_grid, files.ct, grid)
    return bodies_by_subregion(files.ct_subregions, subregions, labels)


def _centroids(path: Path | None, grid: Grid) -> Centroids | None:
    """The centroids in a file of either format."""
    if path is None:
        return None
    return read_verse_centroids(path, grid) if path.name.endswith(VERSE_CENTROIDS) else read_centroids(path)
