"""Translation of other labelling schemes to VerSe ids: one YAML file per scheme, {id in the scheme: VerSe id}."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.datasets.io.documents import read_yaml
from benchmark.datasets.io.images import LARGEST_LABEL
from benchmark.errors import BadInput

FOLDER = Path(__file__).parent


def label_map_names() -> list[str]:
    """List the names of the maps that come with the project."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def label_map_file(name: str) -> Path:
    """Find the file of a map.

    Args:
        name: of one of the project's maps, or of a YAML file.

    Raises:
        BadInput: if there is no such map or file.
    """
    file = Path(name).expanduser() if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(label_map_names())
        raise BadInput(f"label_map {name}: expected a YAML file or one of {known}, found no {file}; check the name")
    return file


def read_label_map(name: str) -> dict[int, int]:
    """Read a map, named as in `label_map_file`.

    Returns:
        id in the other scheme -> VerSe id, both from 1 to 65535.

    Raises:
        BadInput: if the file is missing, has another content or no id.
    """
    file = label_map_file(name)
    content = read_yaml(file, "ids such as 27: 24")
    ids: dict[int, int] = {}
    for pair in content.items():
        theirs, verse = (int(v) if isinstance(v, str) and v.strip().isdecimal() else v for v in pair)
        if not all(type(v) is int and 1 <= v <= LARGEST_LABEL for v in (theirs, verse)):
            raise BadInput(f"{file}: expected whole numbers such as 27: 24, found {pair[0]!r}: {pair[1]!r}; correct it")
        if ids.setdefault(theirs, verse) != verse:
            raise BadInput(f"{file}: expected one VerSe id for {theirs}, found {ids[theirs]} and {verse}; keep one")
    if not content:
        raise BadInput(f"{file}: expected at least one id, found none; add one")
    return ids


def translate(path: Path, labels: np.ndarray, name: str) -> np.ndarray:
    """Translate labels to VerSe ids. Ids that the map does not name (organs, discs) become background.

    Args:
        path: of the label file, for the error.
        labels: uint16 (z, y, x), ids of the other scheme.
        name: of the map, as in `label_map_file`.

    Returns:
        VerSe ids, uint16 (z, y, x).

    Raises:
        BadInput: if the map names none of the labels.
    """
    table = np.zeros(LARGEST_LABEL + 1, np.uint16)
    ids = read_label_map(name)
    table[list(ids)] = list(ids.values())
    translated = table[labels]
    if not translated.any():
        found = ", ".join(str(v) for v in np.unique(labels)[1:11])
        raise BadInput(f"{path}: expected labels that label_map {name} names, found {found}; choose another label_map")
    return translated
