"""`oracle-polyrigid`: the best rigid transform of each vertebra, found from the fixed labels, fused as by `polyrigid`.

It is no method but the ceiling of its class: what a row that moves each vertebra rigidly could reach on these labels.
It is registered as an oracle, so that `run` shows it the fixed labels, and reports print it in brackets, outside of
every ranking, claim and statistic. The transform of a vertebra is the closest rigid transform of `metrics.rigid`, which
minimises the squared difference of the moved moving label and the fixed label.
"""

from __future__ import annotations

import numpy as np
import torch

from methods.base import Grid, Pair, vertebra_ids
from methods.bones.polyrigid import Polyrigid
from methods.bones.search import BoneMatches
from methods.geometry import spacing_zyx
from methods.vertebrae import place_in_spine
from metrics.rigid import RigidFit, closest_rigid


class OraclePolyrigid(Polyrigid):
    """The closest rigid transform of each moving to its fixed label, fused in the polyrigid model."""

    def find(self, pair: Pair) -> BoneMatches:
        """The transform of each vertebra that both label maps have; others use that of the nearest vertebra.

        Raises:
            ValueError: the pair has no fixed labels, or no vertebra is in both label maps.
        """
        moving, fixed = pair.moving.labels, pair.fixed.labels
        assert moving is not None  # Pair refuses a moving scan without labels
        if fixed is None:
            raise ValueError(
                f"pair {pair.case}: expected fixed labels, got none; only `run` shows them to a reference row"
            )
        ids = sorted(vertebra_ids(moving), key=place_in_spine)
        labels, target = (torch.from_numpy(each.astype(np.int32)) for each in (moving, fixed))
        fit = closest_rigid(labels, target, ids, spacing_zyx(pair.grid))
        known = fit.residual.isfinite().tolist()
        found = {v: in_lps(fit, k, pair.grid) for k, v in enumerate(ids) if known[k]}
        if not found:
            raise ValueError(f"pair {pair.case}: no vertebra is in both label maps")
        return BoneMatches.completed(found, ids)


def in_lps(fit: RigidFit, k: int, grid: Grid) -> np.ndarray:
    """The k-th transform of a fit as a 4 x 4 matrix of LPS millimetres, fixed -> moving."""
    # The fit acts on voxel index * spacing in the order z, y, x; a grid maps the reverse order to LPS.
    to_lps, transform = np.eye(4), np.eye(4)
    to_lps[:3, :3], to_lps[:3, 3] = grid.matrix[:, ::-1], grid.origin_mm
    transform[:3, :3], transform[:3, 3] = fit.rotation[k].numpy(), fit.translation[k].numpy()
    return to_lps @ transform @ np.linalg.inv(to_lps)
