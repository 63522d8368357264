"""`learn2reg`: a folder in the format of the Learn2Reg challenge, its dataset.json naming images and pairs.

    DIR/dataset.json (or NAME_dataset.json)   {"training": [{"image": "./imagesTr/a_0001.nii.gz", "label": ...}, ...],
                                               "training_paired_images": [{"fixed": ..., "moving": ...}, ...],
                                               "registration_val": [...], "registration_test": [...]}
        imagesTr/ labelsTr/ imagesTs/ labelsTs/   scans, and their labels under the same names
        keypointsTr/ keypointsTs/                 optional: a CSV file per scan, x, y, z in voxels, for landmark_tre_mm

Train, val and test are `training_paired_images`, `registration_val` and `registration_test` (or `test_paired_images`),
pairs in the order and direction in which they are listed: the fixed scan takes the part of the MR, the moving one
(which must have labels) that of the CT, in HU. Learn2Reg's pairs lie on each other already, so nothing is pre-aligned
unless `pre_aligned: false`. https://learn2reg.grand-challenge.org
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmark.datasets.base import SPLITS, Dataset, check_split
from benchmark.datasets.io.documents import read_json
from benchmark.datasets.io.landmarks import read_keypoints
from benchmark.datasets.patients import LabelSettings, PatientFiles, read_patient
from benchmark.datasets.preprocessing import Patient, centroids_mm, preprocess
from benchmark.errors import BadInput
from methods.base import Case

PAIRS = {
    "train": ("training_paired_images",),
    "val": ("registration_val",),
    "test": ("registration_test", "test_paired_images"),
}
IMAGES = ("training", "test")
SUFFIXES = (".nii.gz", ".nii")


class Learn2RegSettings(LabelSettings):
    """dir: the folder with the dataset.json. pre_aligned: whether the pairs lie on each other already; if not, they are
    aligned on the centroids of their labels, as patients in folders are.
    """

    dir: Path
    pre_aligned: bool = True


@dataclass(frozen=True)
class ListedPair:
    """One pair of the file. fixed, moving: images as the file names them. fixed_labels, moving_labels: theirs."""

    fixed: str
    moving: str
    fixed_labels: str
    moving_labels: str


class Learn2Reg(Dataset):
    """Pairs of a Learn2Reg dataset.json, with its imagesTr and labelsTr."""

    Settings = Learn2RegSettings
    argument = "dir"
    settings: Learn2RegSettings

    @property
    def folder(self) -> Path:
        return self.settings.dir.expanduser()

    def cases(self, split: str) -> list[str]:
        """Pairs as `FIXED--MOVING`, in the file's order. Raises BadInput as `load`, ValueError for another split."""
        out = self.left_out(split)
        return [name for name in self._pairs[split] if name not in out]

    def left_out(self, split: str) -> dict[str, str]:
        """Pairs without labels of the fixed scan: they can be trained on, not measured."""
        check_split(split)
        why = "no labels of the fixed scan, so that nothing can be measured; it serves training alone"
        listed = self._pairs[split] if split != "train" and self.settings.pre_aligned else {}
        return {name: why for name, pair in listed.items() if not self._inside(pair.fixed_labels).exists()}

    def load(self, case: str) -> Case:
        """One pair, resampled to 1 mm on the surroundings of the moving labels.

        Raises BadInput for a dataset.json or a file that cannot be used, ValueError for another name.
        """
        pair = next((pairs[case] for pairs in self._pairs.values() if case in pairs), None)
        if pair is None:
            raise ValueError(f"case: expected a pair that {self._file.name} lists, got {case!r}")
        patient = read_patient(case, self._files(pair), self.settings)
        keypoints = [self._keypoints(image) for image in (pair.fixed, pair.moving)]
        if all(file.exists() for file in keypoints):
            landmarks = read_keypoints(keypoints[0], patient.mr_grid, keypoints[1], patient.ct_grid)
            patient = replace(patient, landmarks_mm=landmarks)
        try:
            return preprocess(_held(patient) if self.settings.pre_aligned else patient)
        except BadInput as error:
            raise BadInput(f"{self.folder}, {case}: {error}") from error

    def fingerprint(self, case: str) -> str:
        """Size and time of the pair's files too, so that one that was replaced is noticed."""
        pair = next(pairs[case] for pairs in self._pairs.values() if case in pairs)
        names = (pair.fixed, pair.moving, pair.fixed_labels, pair.moving_labels)
        files = [self._inside(n) for n in names] + [self._keypoints(n) for n in names[:2]]
        stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.exists()]
        return f"{super().fingerprint(case)} {stats} {self.settings.fingerprint()}"

    @property
    def _file(self) -> Path:
        found = sorted(self.folder.glob("*dataset.json")) if self.folder.is_dir() else []
        if len(found) != 1:
            names = ", ".join(f.name for f in found) or "none"
            raise BadInput(f"{self.folder}: expected one dataset.json in the folder, found {names}; check the name")
        return found[0]

    @cached_property
    def _pairs(self) -> dict[str, dict[str, ListedPair]]:
        """By split, the pairs by name. A scan in two splits is refused."""
        content = read_json(self._file, "a Learn2Reg dataset.json, an object with lists of pairs")
        labels = dict(self._listed_labels(content))
        pairs: dict[str, dict[str, ListedPair]] = {}
        where: dict[str, str] = {}
        for split in SPLITS:
            key = next((k for k in PAIRS[split] if content.get(k)), PAIRS[split][0])
            pairs[split] = {}
            for entry in content.get(key) or []:
                pair = self._pair(key, entry, labels)
                self._check_direction(content, pair.moving)
                for image in (pair.fixed, pair.moving):
                    if where.setdefault(image, split) != split:
                        raise BadInput(
                            f"{self._file}: expected each scan in one split, found {image} in {where[image]!r} and in "
                            f"{split!r}; leave it in one"
                        )
                name = f"{_stem(pair.fixed)}--{_stem(pair.moving)}"
                if any(name in listed for listed in pairs.values()):
                    raise BadInput(f"{self._file}: expected each pair once, found {name} twice; list it once")
                pairs[split][name] = pair
        if not any(pairs.values()):
            keys = ", ".join(k for keys in PAIRS.values() for k in keys)
            raise BadInput(f"{self._file}: expected pairs under {keys}, found none; list at least one")
        return pairs

    def _listed_labels(self, content: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Image -> labels as the lists of images have them; an entry may be a name or an object."""
        for entry in (entry for key in IMAGES for entry in content.get(key) or []):
            if isinstance(entry, dict) and isinstance(entry.get("image"), str) and isinstance(entry.get("label"), str):
                yield _plain(entry["image"]), _plain(entry["label"])

    def _pair(self, key: str, entry: Any, labels: dict[str, str]) -> ListedPair:
        names = [entry.get(side) for side in ("fixed", "moving")] if isinstance(entry, dict) else []
        images = [_plain(name) for name in names if isinstance(name, str) and name.endswith(SUFFIXES)]
        if len(images) != 2:
            raise BadInput(
                f'{self._file}: expected pairs such as {{"fixed": "./imagesTr/a.nii.gz", "moving": ...}} under {key}, '
                f"found {str(entry)[:80]}; correct it"
            )
        fixed, moving = images
        found = [labels.get(name, name.replace("images", "labels", 1)) for name in (fixed, moving)]
        for name in (fixed, moving, *found):
            self._inside(name)
        return ListedPair(fixed, moving, *found)

    def _check_direction(self, content: dict[str, Any], moving: str) -> None:
        """Where the file says what is what (`..._0001` is modality 1): the moving scan is read in HU."""
        modalities, number = content.get("modality"), _stem(moving).rpartition("_")[2]
        if not isinstance(modalities, dict) or not number.isdecimal() or len(number) != 4:
            return
        modality = modalities.get(str(int(number)))
        if isinstance(modality, str) and "CT" not in modality.upper():
            raise BadInput(
                f"{self._file}: expected CT as the moving scan, found {modality} ({moving}); swap fixed and moving"
            )

    def _inside(self, name: str) -> Path:
        """A file of the dataset, not one beside it. Links inside the folder may lead elsewhere: the user made them."""
        if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
            raise BadInput(f"{self._file}: expected files inside its folder, found {name!r}; correct the path")
        return self.folder / name

    def _files(self, pair: ListedPair) -> PatientFiles:
        return PatientFiles(
            ct=self._inside(pair.moving), ct_labels=self._inside(pair.moving_labels),
            mr=self._inside(pair.fixed), mr_labels=self._inside(pair.fixed_labels),
            labels_optional=self.settings.pre_aligned,
        )  # fmt: skip

    def _keypoints(self, image: str) -> Path:
        folder, _, name = image.replace("images", "keypoints", 1).rpartition("/")
        return self._inside(f"{folder}/{_stem(name)}.csv" if folder else f"{_stem(name)}.csv")


def _held(patient: Patient) -> Patient:
    """The patient with the CT's centroids on both sides, so that pre-alignment leaves it where it is."""
    return replace(patient, mr_centroids=centroids_mm(patient.ct_labels, patient.ct_grid), ct_centroids=None)


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _stem(name: str) -> str:
    base = name.rpartition("/")[2]
    return next((base.removesuffix(s) for s in SUFFIXES if base.endswith(s)), base)
