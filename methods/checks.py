"""Pairs that no image registration can do anything with, refused in one line."""

from __future__ import annotations

from methods.base import Pair


def refuse_flat(pair: Pair) -> None:
    """Raise ValueError if one of the images has one value everywhere."""
    for name, scan in (("fixed", pair.fixed), ("moving", pair.moving)):
        if scan.image.min() == scan.image.max():
            raise ValueError(f"pair {pair.case}: the {name} image has one value everywhere, {scan.image.flat[0]}")


def refuse_unlabelled(pair: Pair, method: str) -> None:
    """Raise ValueError if the moving scan has no labelled voxel, which `method` cannot do without."""
    if pair.moving.labels is None or not pair.moving.labels.any():
        raise ValueError(f"pair {pair.case}: the moving label map is empty; {method} needs labelled vertebrae")
