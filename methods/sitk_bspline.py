"""`sitk-bspline`: free-form deformation by SimpleITK, a second library beside elastix.

A cubic B-spline on one grid of control points maximises Mattes' mutual information on randomly drawn voxels, at three
image resolutions from coarse to fine. It has no rigidity constraint. In a limited field of view the start is kept where
the end is not better by the metric (`methods.kept_start`).

References:
    D. Rueckert et al., Nonrigid registration using free-form deformations, IEEE TMI 18(8), 1999.
    D. Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE TMI 22(1), 2003.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from methods.base import Grid, Method, Pair, Registration, Settings
from methods.checks import missing, refuse_flat, version_of
from methods.geometry import from_sitk, to_sitk
from methods.kept_start import LEFT_VIEW, better_of_start_and_end, has_limits, kept_start

_PACKAGE = "SimpleITK"
_OUT_OF_VIEW = "All samples map outside moving image buffer"

LEVELS = 3  # resolutions of the images, each twice as fine as the one before; the control points stay the same


class SitkBSplineSettings(Settings):
    """Settings of `sitk-bspline`; the defaults were chosen on phantoms of the validation split.

    There is no regularisation: the field is smooth because the control points are far apart and iterations are few.

    Attributes:
        grid_mm: largest distance of the control points, above 0.
        bins: bins of the joint histogram along each axis, at least 5.
        samples: share of the voxels that is drawn, in (0, 1].
        iterations: most iterations of each resolution, at least 1.
    """

    grid_mm: float = Field(40.0, gt=0)
    bins: int = Field(32, ge=5)
    samples: float = Field(0.02, gt=0, le=1)
    iterations: int = Field(20, ge=1)


class SitkBSpline(Method):
    """SimpleITK: B-spline, Mattes' mutual information, L-BFGS-B, three resolutions."""

    devices = ("cpu",)
    Settings = SitkBSplineSettings
    settings: SitkBSplineSettings
    seed = 0

    def unavailable(self, device: str) -> str | None:
        return missing(_PACKAGE)

    def fingerprint(self) -> str:
        return f"{_PACKAGE} {version_of(_PACKAGE)}"

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Import SimpleITK and set its threads."""
        import SimpleITK as sitk

        self.seed = seed
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)

    def register(self, pair: Pair) -> Registration:
        """Register one pair.

        Raises:
            ValueError: an image has one value everywhere, or the fields of view do not meet.
            RuntimeError: SimpleITK failed.
        """
        import SimpleITK as sitk

        refuse_flat(pair)
        fixed, moving = (to_sitk(scan.image, pair.grid) for scan in (pair.fixed, pair.moving))
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(self.settings.bins)
        method.SetMetricSamplingStrategy(method.RANDOM)
        # Samples outside the masks are dropped, so that more are drawn.
        masks = [scan.inside for scan in (pair.fixed, pair.moving) if scan.inside is not None]
        seen = float(np.logical_and.reduce(masks).mean()) if masks else 1.0
        if not seen:
            raise ValueError(f"pair {pair.case}: the fields of view of the two scans do not meet")
        share = min(self.settings.samples / seen, 1.0)
        method.SetMetricSamplingPercentage(share, seed=self.seed + 1)  # 0 means the clock
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsLBFGSB(numberOfIterations=self.settings.iterations, maximumNumberOfCorrections=5)
        method.SetShrinkFactorsPerLevel(_shrinks(pair.grid))
        method.SetSmoothingSigmasPerLevel([2.0 ** (LEVELS - 1 - k) if k < LEVELS - 1 else 0.0 for k in range(LEVELS)])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        for set_mask, scan in ((method.SetMetricFixedMask, pair.fixed), (method.SetMetricMovingMask, pair.moving)):
            if scan.inside is not None:
                set_mask(to_sitk(scan.inside.astype(np.uint8), pair.grid))
        method.SetInitialTransform(sitk.BSplineTransformInitializer(fixed, _mesh(pair.grid, self.settings.grid_mm)))
        try:
            transform = method.Execute(fixed, moving)
        except RuntimeError as error:
            if has_limits(pair) and _OUT_OF_VIEW in str(error):
                return kept_start(pair, LEFT_VIEW)
            raise
        field = sitk.TransformToDisplacementField(
            transform, sitk.sitkVectorFloat32, fixed.GetSize(), fixed.GetOrigin(), fixed.GetSpacing(),
            fixed.GetDirection(),
        )  # fmt: skip
        notes = {"metric": method.GetMetricValue(), "stopped": method.GetOptimizerStopConditionDescription()}
        return better_of_start_and_end(Registration(np.ascontiguousarray(from_sitk(field)[0], np.float32), notes), pair)


def _mesh(grid: Grid, step_mm: float) -> list[int]:
    """Number of mesh cells along x, y, z, each at most `step_mm` long."""
    return [max(1, math.ceil(n * s / step_mm)) for n, s in zip(grid.shape[::-1], grid.spacing_mm, strict=True)]


def _shrinks(grid: Grid) -> list[int]:
    """The shrink factor of each resolution, limited so that the shortest axis keeps 8 voxels."""
    most = max(1, min(grid.shape) // 8)
    return [min(2 ** (LEVELS - 1 - k), most) for k in range(LEVELS)]
