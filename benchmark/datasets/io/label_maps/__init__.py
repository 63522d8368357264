"""Translation of other labelling schemes to VerSe ids: one YAML file per scheme, {id in the scheme: VerSe id}."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from benchmark.datasets.io.documents import read_yaml
from benchmark.datasets.io.images import LARGEST_LABEL
from benchmark.errors import BadInput

FOLDER = Path(__file__).parent
CURRENT = {"totalsegmentator": "totalsegmentator-2"}  # a scheme without its version
VERSE = "verse"  # the ids of this project, which need no map
ROLES: Mapping[str, Literal["ct", "mr"]] = {"ct": "ct", "moving": "ct", "mr": "mr", "fixed": "mr"}
FORM = "one NAME for both scans, or ct=NAME,mr=NAME (in YAML {ct: NAME, mr: NAME}; moving and fixed mean the same)"

LabelMaps = str | dict[Literal["ct", "mr"], str] | None  # one map for both scans, or a map for each; None: VerSe ids


def label_map_names() -> list[str]:
    """List the names of the maps that come with the project, with the version where a scheme has several."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def known_label_maps() -> str:
    """List the names of the maps in words, for a message."""
    aliases = {current: alias for alias, current in CURRENT.items()}
    names = (f"{n} (or {aliases[n]})" if n in aliases else n for n in label_map_names())
    return f"{', '.join(names)}, {VERSE}"


def parse_label_maps(value: object) -> LabelMaps:
    """Read the choice of label maps, as typed on the command line or in YAML.

    Args:
        value: `NAME`, `ct=NAME,mr=NAME`, {ct: NAME, mr: NAME} or None; moving stands for ct, fixed for mr.

    Returns:
        The name of one map for both scans; or a name for each scan, without those that have VerSe ids; or None, if both
        have VerSe ids.

    Raises:
        ValueError: for another form; the message shows the right one.
    """
    text = value.strip() if isinstance(value, str) else ""
    if value is None or text == VERSE:
        return None
    is_name = bool(text) and not set(text) & set("={},") and text.partition(":")[0] not in ROLES
    if is_name or (text and Path(text).expanduser().is_file()):
        return text
    if isinstance(value, Mapping):
        items = list(value.items())
    else:
        items = [part.strip().partition("=")[::2] for part in text.split(",")]
    chosen: dict[Literal["ct", "mr"], str] = {}
    for scan, name in items:
        role = ROLES.get(scan.strip()) if isinstance(scan, str) else None
        if role is None or role in chosen or not isinstance(name, str) or not name.strip():
            raise ValueError(f"expected {FORM}; the names are {known_label_maps()}, or a YAML file")
        chosen[role] = name.strip()
    return {role: name for role, name in chosen.items() if name != VERSE} or None


def parse_ct_label_map(value: object) -> str | None:
    """Read the choice of a label map where there is a CT alone: NAME, or ct=NAME as in `parse_label_maps`.

    Raises:
        ValueError: for another form, or a map of the MR.
    """
    chosen = parse_label_maps(value)
    if isinstance(chosen, dict):
        if "mr" in chosen:
            raise ValueError("expected NAME or ct=NAME, since the CT alone has a label file")
        return chosen.get("ct")
    return chosen


def label_map_file(name: str) -> Path:
    """Find the file of a map.

    Args:
        name: of one of the project's maps, or of a YAML file. `totalsegmentator` is its version 2.

    Raises:
        BadInput: if there is no such map or file.
    """
    file = Path(name).expanduser() if name.endswith((".yaml", ".yml")) else FOLDER / f"{CURRENT.get(name, name)}.yaml"
    if not file.is_file():
        raise BadInput(
            f"label_map {name}: expected a YAML file or one of {known_label_maps()}, found no {file}; check the name"
        )
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
        raise BadInput(
            f"{path}: expected labels that label_map {name} names, found {found}; choose another label_map, or one for "
            "each scan (ct=NAME,mr=NAME)"
        )
    return translated
