"""The rigidity image: where Staring's penalty acts. Written, read back, and looked for in elastix's log.

elastix takes the image by file name alone, in the moving domain. If the name does not reach the penalty, elastix only
warns and keeps the *whole* image rigid, a wrong result that looks like a good one. So the file is verified before the
registration and the log after it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

# elastix 5.3: "FixedRigidityImageName and MovingRigidityImage are both not supplied. The rigidity penalty term is
# evaluated on entire input transform domain."; "Error occurred while reading the moving rigidity image."
_WARNINGS = ("both not supplied", "entire input transform domain", "while reading the moving rigidity image")


def rigidity_of(labels: np.ndarray, case: str) -> np.ndarray:
    """The union of the moving labels (z, y, x) as uint8, 1 in bone.

    Raises ValueError if no voxel is labelled: the penalty would act nowhere.
    """
    bone = (labels > 0).astype(np.uint8)
    if not bone.any():
        raise ValueError(f"pair {case}: the moving label map is empty; Staring's penalty needs labelled bone")
    return bone


def write(bone: np.ndarray, spacing_mm: tuple[float, float, float], path: Path) -> None:
    """Write `bone` (z, y, x), uint8, with its origin at 0 and no rotation, and verify the file."""
    import itk

    image = itk.image_from_array(bone)
    image.SetSpacing(spacing_mm)
    itk.imwrite(image, str(path))
    verify(path, bone, spacing_mm)


def verify(path: Path, bone: np.ndarray, spacing_mm: tuple[float, float, float]) -> None:
    """Raise RuntimeError unless the file at `path` reads back as `bone` with `spacing_mm` (x, y, z)."""
    import itk

    if not path.is_file():
        raise RuntimeError(f"rigidity image: expected a file at {path}, found none; elastix would keep all rigid")
    try:
        image = itk.imread(str(path))
    except RuntimeError as error:
        raise RuntimeError(f"rigidity image: {path} cannot be read back; is the temporary folder full?") from error
    values = itk.array_from_image(image)
    if not (np.array_equal(values, bone) and np.allclose(image.GetSpacing(), spacing_mm)):
        raise RuntimeError(
            f"rigidity image: {path} reads back as {values.shape} with {int(np.count_nonzero(values))} voxels of bone, "
            f"expected {bone.shape} with {int(np.count_nonzero(bone))}"
        )


def check_log(log: str, path: Path) -> None:
    """Raise RuntimeError unless elastix's `log` shows that the penalty was given the image at `path`."""
    warning = next((line.strip() for line in log.splitlines() if any(w in line for w in _WARNINGS)), None)
    if warning is not None:
        raise RuntimeError(f"elastix did not use the rigidity image and penalised everything: {warning}")
    if f'(MovingRigidityImageName "{path}")' not in log:
        raise RuntimeError(f"elastix's log does not name the rigidity image {path}; its use cannot be verified")
