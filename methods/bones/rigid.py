"""`rigid`: one rigid transform of all bones, found as `polyrigid` finds that of each vertebra.

All vertebrae count as one bone, so that the search compares both scans by MIND-SSC in the bones and a rim around them
(`search.py`). Mutual information near the bones was tried before. On phantoms of other shapes and contrasts it was
higher at a pose some 10 mm away than at the best one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import distance_transform_edt

from methods.base import Method, Pair, Registration
from methods.bones.fusion import affine_points, in_voxels
from methods.bones.search import COARSE_MIND, COARSE_MM, NothingShown, SearchSettings, find_bones
from methods.checks import refuse_flat, refuse_unlabelled
from methods.geometry import spacing_zyx, to_millimetres
from methods.kept_start import kept_start
from methods.rigid_transform import WHOLE_IMAGE

SPINE = 20  # the label of all bones together, any VerSe id


class Rigid(Method):
    """One rigid transform of the whole image, for all bones together."""

    devices = ("cpu",)
    Settings = SearchSettings
    settings: SearchSettings

    def register(self, pair: Pair) -> Registration:
        """Register one pair. Where no bone can be compared, the start is kept, with a `warning` in the notes.

        Raises:
            ValueError: no vertebra is labelled, or an image has one value everywhere.
        """
        refuse_flat(pair)
        refuse_unlabelled(pair, self.name)
        bones = _compared(pair)
        if not bones.any():
            return kept_start(pair, "it needs bone that the fixed scan saw, and found none")
        one = np.where(bones, SPINE, 0).astype(np.uint16)
        try:
            found = find_bones(replace(pair, moving=replace(pair.moving, labels=one)), self.settings)
        except NothingShown:
            return kept_start(pair, "it found too little structure around the bones in the fixed scan")
        transform = found.to_moving[SPINE]
        displacement = affine_points(in_voxels(transform, pair.grid) - np.eye(4), pair.grid.shape)[None]
        notes: dict[str, float | str] = {"match_distance": found.distances[SPINE]}
        return Registration(to_millimetres(displacement, pair.grid), notes, {WHOLE_IMAGE: transform})


def _compared(pair: Pair) -> np.ndarray:
    """The bones of the moving scan, bool (z, y, x), without what lies at or beyond the border of the fixed scan's view.

    The search asks for half of a bone. In a limited field of view that is half of what can be seen.
    """
    labels, inside = pair.moving.labels, pair.fixed.inside
    assert labels is not None  # Pair refuses a moving scan without labels
    bones: np.ndarray = labels > 0
    if inside is not None:
        bones &= distance_transform_edt(inside, spacing_zyx(pair.grid)) > sum(COARSE_MIND) * COARSE_MM
    return bones
