"""What every dataset offers: names of cases by split, and one case at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from methods.base import Case, Settings

SPLITS = ("train", "val", "test")


def check_split(split: str) -> None:
    """Raise ValueError for a split that there is not."""
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")


class Dataset(ABC):
    """A source of CT/MR pairs. One instance is one dataset of a run, with its settings.

    Class attribute `Settings`: the pydantic model of the settings; a wrong key or type is refused by name
    (pydantic.ValidationError, a ValueError). `argument`: the setting that the command line's `name:VALUE` fills.
    `computed`: True where `load` computes for seconds what the fingerprint decides, so that runs keep cases on disk
    (datasets/cache.py).
    """

    Settings: ClassVar[type[Settings]] = Settings
    argument: ClassVar[str | None] = None
    computed: ClassVar[bool] = False

    def __init__(self, name: str, **settings: Any) -> None:
        self.name = name
        self.settings = self.Settings(**settings)

    @abstractmethod
    def cases(self, split: str) -> list[str]:
        """Names of the cases of `split` (train, val or test), in a fixed order. Raises ValueError for another split."""

    def left_out(self, split: str) -> dict[str, str]:
        """Cases that would be in `split` but cannot be measured, and why; a run says so. Default: none."""
        return {}

    @abstractmethod
    def load(self, case: str) -> Case:
        """The case itself: both scans on one grid, with every label and truth that is known.

        The same name gives the same arrays, bit by bit. Raises ValueError for a name that the dataset does not have.
        """

    def fingerprint(self, case: str) -> str:
        """What decides the case's arrays besides the code: a cell made from something else is stale."""
        return f"{type(self).__name__} {self.settings.model_dump_json()} {case}"
