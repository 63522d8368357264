"""The check of rigid transforms that a method reports."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

ORTHONORMAL = 1e-4  # largest error of a rotation's columns
WHOLE_IMAGE = 0  # the key of a transform of the whole image; other keys are VerSe ids


def check_rigid_transforms(transforms: Mapping[int, np.ndarray]) -> None:
    """Check the rigid transforms that a method reports.

    Args:
        transforms: by VerSe id, or by 0 for the whole image, 4 x 4, fixed -> moving, LPS mm.

    Raises:
        ValueError: a key is no id, or a value is no rigid transform.
    """
    for key, transform in transforms.items():
        name = f"rigid_transforms[{key!r}]"
        if not isinstance(key, int | np.integer) or key < 0:
            raise ValueError(f"{name}: expected a VerSe id, or 0 for the whole image, as the key")
        matrix = np.asarray(transform, dtype=float)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.allclose(matrix[3], (0, 0, 0, 1)):
            raise ValueError(f"{name}: expected a finite 4 x 4 matrix with the last row 0 0 0 1, got {matrix.tolist()}")
        rotation = matrix[:3, :3]
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=ORTHONORMAL) or np.linalg.det(rotation) < 0:
            raise ValueError(
                f"{name}: expected a rotation in its first three rows and columns, got {rotation.tolist()}"
            )
