"""Other labelling schemes translated to VerSe ids: a YAML file each, {id there: VerSe id}."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.datasets.io.documents import read_yaml
from benchmark.datasets.io.images import LARGEST_LABEL
from benchmark.errors import BadInput

HERE = Path(__file__).parent


def label_map_names() -> list[str]:
    """The maps that come with the project."""
    return sorted(file.stem for file in HERE.glob("*.yaml"))


def label_map_file(name: str) -> Path:
    """The file of a map: one of the project's by name, or a YAML file. Raises BadInput where there is none."""
    file = Path(name).expanduser() if name.endswith((".yaml", ".yml")) else HERE / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(label_map_names())
        raise BadInput(f"label_map {name}: expected a YAML file or one of {known}, found no {file}; check the name")
    return file


def read_label_map(name: str) -> dict[int, int]:
    """id in the other scheme -> VerSe id. Raises BadInput for a file that is something else."""
    file = label_map_file(name)
    content = read_yaml(file, "ids such as 27: 24")
    for pair in content.items():
        if not all(type(v) is int and 1 <= v <= LARGEST_LABEL for v in pair):
            raise BadInput(f"{file}: expected whole numbers such as 27: 24, found {pair[0]!r}: {pair[1]!r}; correct it")
    if not content:
        raise BadInput(f"{file}: expected at least one id, found none; add one")
    return content


def translate(path: Path, labels: np.ndarray, name: str) -> np.ndarray:
    """Labels in VerSe ids: uint16 (z, y, x). What the map does not name (organs, discs) becomes background.

    path: where the labels are from, for the error. Raises BadInput where the map names none of them.
    """
    table = np.zeros(LARGEST_LABEL + 1, np.uint16)
    ids = read_label_map(name)
    table[list(ids)] = list(ids.values())
    translated = table[labels]
    if not translated.any():
        found = ", ".join(str(v) for v in np.unique(labels)[1:11])
        raise BadInput(f"{path}: expected labels that label_map {name} names, found {found}; choose another label_map")
    return translated
