"""The rigidity image, which tells elastix in which voxels Staring's penalty acts.

elastix reads this image from a file, in the moving domain. If it cannot read the file, it warns in its log and applies
the penalty to the whole image, and the result is wrong without an error. Therefore the file is verified before the
registration and the log after it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

# elastix 5.3: "FixedRigidityImageName and MovingRigidityImage are both not supplied. The rigidity penalty term is
# evaluated on entire input transform domain."; "Error occurred while reading the moving rigidity image."
_WARNINGS = ("both not supplied", "entire input transform domain", "while reading the moving rigidity image")


def rigidity_of(labels: np.ndarray, case: str) -> np.ndarray:
    """The mask of all labelled voxels.

    Args:
        labels: moving labels (z, y, x), 0 = background.
        case: the pair's name, for the error message.

    Returns:
        uint8 (z, y, x), 1 in bone, 0 elsewhere.

    Raises:
        ValueError: no voxel is labelled, so that the penalty would have no effect.
    """
    bone = (labels > 0).astype(np.uint8)
    if not bone.any():
        raise ValueError(f"pair {case}: the moving label map is empty; Staring's penalty needs labelled bone")
    return bone


def write(bone: np.ndarray, spacing_mm: tuple[float, float, float], path: Path) -> None:
    """Write the mask with origin 0 and the identity as its direction, and verify the file.

    Args:
        bone: uint8 (z, y, x).
        spacing_mm: (x, y, z).
        path: the file to write, in a format of ITK.

    Raises:
        RuntimeError: the file does not read back as it was written.
    """
    import itk

    image = itk.image_from_array(bone)
    image.SetSpacing(spacing_mm)
    itk.imwrite(image, str(path))
    verify(path, bone, spacing_mm)


def verify(path: Path, bone: np.ndarray, spacing_mm: tuple[float, float, float]) -> None:
    """Check that a file holds the mask.

    Args:
        path: the file.
        bone: the expected mask, uint8 (z, y, x).
        spacing_mm: the expected spacing (x, y, z).

    Raises:
        RuntimeError: the file is missing, cannot be read, or has other voxels or another spacing.
    """
    import itk

    if not path.is_file():
        raise RuntimeError(
            f"rigidity image: expected a file at {path}, found none; elastix would penalise the whole image"
        )
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
    """Check that the penalty used the rigidity image.

    Args:
        log: elastix's log.
        path: the file of the rigidity image.

    Raises:
        RuntimeError: the log warns about the image, or does not name its file.
    """
    warning = next((line.strip() for line in log.splitlines() if any(w in line for w in _WARNINGS)), None)
    if warning is not None:
        raise RuntimeError(f"elastix did not use the rigidity image and penalised the whole image: {warning}")
    if f'(MovingRigidityImageName "{path}")' not in log:
        raise RuntimeError(f"elastix's log does not name the rigidity image {path}; its use cannot be verified")
