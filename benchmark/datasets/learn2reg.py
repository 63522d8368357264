"""`learn2reg`: a folder in the format of the Learn2Reg challenge; dataset.json names images and pairs.

    DIR/dataset.json (or NAME_dataset.json)   {"training": [{"image": "./imagesTr/a_0001.nii.gz", "label": ...}, ...],
                                               "training_paired_images": [{"fixed": ..., "moving": ...}, ...],
                                               "registration_val": [...], "registration_test": [...]}
        imagesTr/ labelsTr/ imagesTs/ labelsTs/   scans, and their labels under the same names
        keypointsTr/ keypointsTs/                 optional: a CSV file per scan, x, y, z in voxels, for landmark_tre_mm

Train, val and test are `training_paired_images`, `registration_val` and `registration_test` (or `test_paired_images`).
The order and direction of pairs are those of the file: the fixed scan is read as the MR, and the moving scan, which
must have labels, as the CT in HU. Learn2Reg's pairs are aligned already, so there is no pre-alignment unless
`pre_aligned: false`. A training pair of a patient in val or test is left out, with a note. https://learn2reg.grand-challenge.org
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmark.datasets.base import SPLITS, Dataset, check_split
from benchmark.datasets.io.documents import read_json
from benchmark.datasets.io.landmarks import read_keypoints
from benchmark.datasets.patients import LabelSettings, PatientFiles, check_headers, moving_voxels, read_patient
from benchmark.datasets.preprocessing import preprocess, without_alignment
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
    """Settings of `learn2reg`.

    dir: the folder with the dataset.json. pre_aligned: whether the pairs are aligned already; if not, they are aligned
    on the centroids of their labels, as patients in folders are.
    """

    dir: Path
    pre_aligned: bool = True


@dataclass(frozen=True)
class ListedPair:
    """One pair of the file. fixed, moving: images as the file names them. fixed_labels, moving_labels: their labels."""

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
        """The folder with the dataset.json."""
        return self.settings.dir.expanduser()

    def cases(self, split: str) -> list[str]:
        """List the pairs of a split as `FIXED--MOVING`, in the order of the file.

        Raises:
            BadInput: if the dataset.json cannot be used.
            ValueError: for another split.
        """
        out = self.left_out(split)
        return [name for name in self._pairs[split] if name not in out]

    def left_out(self, split: str) -> dict[str, str]:
        """List the pairs of a split that are not used, with the reason.

        Pairs without labels of the fixed scan serve training alone; training pairs of patients in another split serve
        that split alone.
        """
        check_split(split)
        if split == "train":
            return dict(self._separated[1])
        why = "no labels of the fixed scan, so that nothing can be measured; it serves training alone"
        listed = self._pairs[split] if self.settings.pre_aligned else {}
        return {name: why for name, pair in listed.items() if not self._inside(pair.fixed_labels).exists()}

    def load(self, case: str) -> Case:
        """Load one pair, resampled to 1 mm around the moving labels.

        Args:
            case: `FIXED--MOVING`, as in `cases`.

        Raises:
            BadInput: if the dataset.json or a file cannot be used.
            ValueError: for another name.
        """
        pair = self._find(case)
        patient = read_patient(case, self._files(pair), self.settings, any_structure=True)
        keypoints = [self._keypoints(image) for image in (pair.fixed, pair.moving)]
        if all(file.exists() for file in keypoints):
            landmarks = read_keypoints(keypoints[0], patient.mr_grid, keypoints[1], patient.ct_grid)
            patient = replace(patient, landmarks_mm=landmarks)
        try:
            return preprocess(without_alignment(patient) if self.settings.pre_aligned else patient)
        except BadInput as error:
            raise BadInput(f"{self.folder}, {case}: {error}") from error

    def check(self, case: str) -> None:
        """Check by headers that the pair's files exist and that labels are on the grid of their image."""
        check_headers(self._files(self._find(case)))

    def voxels(self, case: str) -> int | None:
        """As `Dataset.voxels`, from the box of the moving labels."""
        return moving_voxels(self._files(self._find(case)).ct_labels, self.settings.label_map_of("ct"))

    def group(self, case: str) -> str:
        """Name the first patient of the case. Pairs that share a patient, directly or through others, are one group."""
        return next(min(group) for group in self._groups if group & _patients({case: self._find(case)}))

    def fingerprint(self, case: str) -> str:
        """Settings, name, and size and time of the pair's files, so that a replaced file is noticed."""
        pair = self._find(case)
        names = (pair.fixed, pair.moving, pair.fixed_labels, pair.moving_labels)
        files = [self._inside(n) for n in names] + [self._keypoints(n) for n in names[:2]]
        stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.exists()]
        return f"{super().fingerprint(case)} {stats} {self.settings.fingerprint()}"

    def _find(self, case: str) -> ListedPair:
        """The pair of a name. Raises ValueError where the file lists none."""
        pair = next((pairs[case] for pairs in self._pairs.values() if case in pairs), None)
        if pair is None:
            raise ValueError(f"case: expected a pair that {self._file.name} lists, got {case!r}")
        return pair

    @property
    def _file(self) -> Path:
        """The one dataset.json in the folder."""
        found = sorted(self.folder.glob("*dataset.json")) if self.folder.is_dir() else []
        if len(found) != 1:
            names = ", ".join(f.name for f in found) or "none"
            raise BadInput(f"{self.folder}: expected one dataset.json in the folder, found {names}; check the name")
        return found[0]

    @property
    def _pairs(self) -> dict[str, dict[str, ListedPair]]:
        """For each split, the pairs by name."""
        return self._separated[0]

    @cached_property
    def _groups(self) -> list[set[str]]:
        """Patients that pairs of one split connect, as disjoint sets."""
        groups: list[set[str]] = []
        for pairs in self._pairs.values():
            for name, pair in pairs.items():
                joined = _patients({name: pair})
                apart = [group for group in groups if not group & joined]
                groups = [*apart, joined.union(*(group for group in groups if group & joined))]
        return groups

    @cached_property
    def _separated(self) -> tuple[dict[str, dict[str, ListedPair]], dict[str, str]]:
        """The pairs of each split by name, and the training pairs that share a patient with another split.

        Challenges list validation pairs among the training pairs. A patient in val and test, and a pair listed twice in
        one split, are refused.
        """
        listed = self._listed_pairs()
        split_of = {patient: split for split in ("val", "test") for patient in _patients(listed[split])}
        both = sorted(_patients(listed["val"]) & _patients(listed["test"]))
        if both:
            raise BadInput(
                f"{self._file}: expected each scan in one split, found {both[0]} in 'val' and in 'test'; "
                "leave it in one"
            )
        withheld = {}
        for name, pair in list(listed["train"].items()):
            if shared := sorted(_patients({name: pair}) & set(split_of)):
                withheld[name] = f"{shared[0]} is also in split {split_of[shared[0]]!r}, so that it is not trained on"
                del listed["train"][name]
        return listed, withheld

    def _listed_pairs(self) -> dict[str, dict[str, ListedPair]]:
        """For each split, the pairs of the file by name."""
        content = read_json(self._file, "a Learn2Reg dataset.json, an object with lists of pairs")
        labels = dict(self._listed_labels(content))
        pairs: dict[str, dict[str, ListedPair]] = {}
        for split in SPLITS:
            key = next((k for k in PAIRS[split] if content.get(k)), PAIRS[split][0])
            pairs[split] = {}
            for entry in content.get(key) or []:
                pair = self._pair(key, entry, labels)
                self._check_direction(content, pair.moving)
                name = f"{_stem(pair.fixed)}--{_stem(pair.moving)}"
                if name in pairs[split]:
                    raise BadInput(f"{self._file}: expected each pair once, found {name} twice; list it once")
                pairs[split][name] = pair
        if not any(pairs.values()):
            keys = ", ".join(k for keys in PAIRS.values() for k in keys)
            raise BadInput(f"{self._file}: expected pairs under {keys}, found none; list at least one")
        return pairs

    def _listed_labels(self, content: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Image -> labels, from the lists of images; an entry may be a name or an object."""
        for entry in (entry for key in IMAGES for entry in content.get(key) or []):
            if isinstance(entry, dict) and isinstance(entry.get("image"), str) and isinstance(entry.get("label"), str):
                yield _plain(entry["image"]), _plain(entry["label"])

    def _pair(self, key: str, entry: Any, labels: dict[str, str]) -> ListedPair:
        """One pair of the list `key`. labels: image -> labels, as far as they are listed."""
        names = [entry.get(side) for side in ("fixed", "moving")] if isinstance(entry, dict) else []
        images = [_plain(name) for name in names if isinstance(name, str) and name.endswith(SUFFIXES)]
        if len(images) != 2:
            raise BadInput(
                f'{self._file}: expected pairs such as {{"fixed": "./imagesTr/a.nii.gz", "moving": ...}} under {key}, '
                f"found {str(entry)[:80]}; correct it"
            )
        fixed, moving = images
        label_files = [labels.get(name, name.replace("images", "labels", 1)) for name in (fixed, moving)]
        for name in (fixed, moving, *label_files):
            self._inside(name)
        return ListedPair(fixed, moving, *label_files)

    def _check_direction(self, content: dict[str, Any], moving: str) -> None:
        """Refuse a moving scan that is no CT, if the file names modalities (`..._0001` is modality 1)."""
        modalities, number = content.get("modality"), _stem(moving).rpartition("_")[2]
        if not isinstance(modalities, dict) or not number.isdecimal() or len(number) != 4:
            return
        modality = modalities.get(str(int(number)))
        if isinstance(modality, str) and "CT" not in modality.upper():
            raise BadInput(
                f"{self._file}: expected CT as the moving scan, found {modality} ({moving}); swap fixed and moving"
            )

    def _inside(self, name: str) -> Path:
        """The path of a file inside the folder. A link inside it may point elsewhere, since the user made it."""
        if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
            raise BadInput(f"{self._file}: expected files inside its folder, found {name!r}; correct the path")
        return self.folder / name

    def _files(self, pair: ListedPair) -> PatientFiles:
        """The pair's files, the moving scan as the CT."""
        return PatientFiles(
            ct=self._inside(pair.moving), ct_labels=self._inside(pair.moving_labels),
            mr=self._inside(pair.fixed), mr_labels=self._inside(pair.fixed_labels),
            labels_optional=self.settings.pre_aligned,
        )  # fmt: skip

    def _keypoints(self, image: str) -> Path:
        """The file of a scan's keypoints, which may be absent."""
        folder, _, name = image.replace("images", "keypoints", 1).rpartition("/")
        return self._inside(f"{folder}/{_stem(name)}.csv" if folder else f"{_stem(name)}.csv")


def _patients(pairs: Mapping[str, ListedPair]) -> set[str]:
    """The patients of pairs: NAME_0001 of an image NAME_0001_0000, where 0000 is the modality, else the image."""
    images = (image for pair in pairs.values() for image in (pair.fixed, pair.moving))
    return {match[1] if (match := re.fullmatch(r"(.*_\d{4})_\d{4}", _stem(image))) else image for image in images}


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _stem(name: str) -> str:
    base = name.rpartition("/")[2]
    return next((base.removesuffix(s) for s in SUFFIXES if base.endswith(s)), base)
