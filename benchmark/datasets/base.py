"""The base class of datasets: names of cases by split, and one case at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from methods.base import Case, Settings

SPLITS = ("train", "val", "test")


def check_split(split: str) -> None:
    """Raise ValueError unless `split` is train, val or test."""
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")


class Dataset(ABC):
    """A source of CT/MR pairs. One instance is one dataset of a run, with its settings.

    Class attributes:
        Settings: the pydantic model of the settings; a wrong key or type raises pydantic.ValidationError, a ValueError.
        argument: the setting that VALUE fills in `name:VALUE` on the command line.
        computed: True if `load` takes seconds to compute a case from its fingerprint alone; runs then keep its cases on
            disk (datasets/cache.py).
    """

    Settings: ClassVar[type[Settings]] = Settings
    argument: ClassVar[str | None] = None
    computed: ClassVar[bool] = False

    def __init__(self, name: str, **settings: Any) -> None:
        self.name = name
        self.settings = self.Settings(**settings)

    @abstractmethod
    def cases(self, split: str) -> list[str]:
        """List the names of the cases of a split, in a fixed order.

        Args:
            split: train, val or test.

        Raises:
            ValueError: for another split.
        """

    def left_out(self, split: str) -> dict[str, str]:
        """List the patients of a split that are not used, with their reasons; a run reports them. Default: none."""
        return {}

    @abstractmethod
    def load(self, case: str) -> Case:
        """Load one case: both scans on one grid, with all known labels and the true displacement, if known.

        The same name gives the same arrays, bit by bit.

        Args:
            case: one of the names in `cases`.

        Raises:
            ValueError: for a name that the dataset does not have.
        """

    def check(self, case: str) -> None:
        """Check the files of a case without reading its scans, for a dry run. Default: nothing to check.

        Raises:
            BadInput: if `load` would refuse the case for a file that is missing, for its header, or for its labels.
        """
        return None

    def voxels(self, case: str) -> int | None:
        """Estimate the voxels of a pair's grid without making the pair, for the time estimate of a dry run.

        None where the dataset cannot tell, as here by default, or where the case's files cannot be used.
        """
        return None

    def group(self, case: str) -> str:
        """Name the patient of a case. Statistics count the cases of one patient, such as motions of one spine, once.

        Default: every case is a patient of its own.

        Args:
            case: one of the names in `cases`.

        Raises:
            BadInput: if a file that names the patient cannot be used.
        """
        return case

    def fingerprint(self, case: str) -> str:
        """Describe all that determines the arrays of a case except the code; a cell of another fingerprint is stale."""
        return f"{type(self).__name__} {self.settings.model_dump_json()} {case}"
