"""Settings of the rows that optimise each pair."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from methods.base import Settings
from methods.deformable.variants import weights_of


class LevelSettings(Settings):
    """One level of the multi-resolution optimisation.

    Attributes:
        image_mm: resolution of the images.
        lattice_mm: distance of the points at which images and penalties may be evaluated, a multiple of that of the
            images.
        control_mm: distance of the control points.
        similarity: nmi or mind.
        iterations: the most iterations.
        step_mm: step length of Adam at the first iteration.
        samples: number of lattice points drawn in each iteration.
        near_mm: points farther from every warped moving label are not drawn.
        penalty_factor: multiplies the weights of all penalties.
        penalty_growth: how many times as large the weights of all penalties are at the level's end as at its start.
    """

    image_mm: float = Field(gt=0)
    lattice_mm: float = Field(gt=0)
    control_mm: float = Field(gt=0)
    similarity: Literal["nmi", "mind"] = "mind"
    iterations: int = Field(ge=0)
    step_mm: float = Field(gt=0)
    samples: int = Field(default=8192, ge=1)
    near_mm: float = Field(default=20.0, gt=0)
    penalty_factor: float = Field(default=1.0, ge=0)
    penalty_growth: float = Field(default=1.0, gt=0)


LEVELS = (
    LevelSettings(image_mm=4, lattice_mm=4, control_mm=24, similarity="nmi", iterations=80, step_mm=4.0, samples=2048,
                  penalty_factor=0.5),
    LevelSettings(image_mm=2, lattice_mm=4, control_mm=12, iterations=50, step_mm=1.5, penalty_factor=1.5),
    LevelSettings(image_mm=1, lattice_mm=2, control_mm=8, iterations=30, step_mm=0.5, near_mm=10.0,
                  penalty_factor=3.0, penalty_growth=4.0),
)  # fmt: skip


class DeformableSettings(Settings):
    """Settings of `deformable` and its variants.

    Attributes:
        penalties: weight of each penalty by name; None selects the row's weight.
        bending: weight of the bending energy.
        levels: from coarse to fine.
        transform: `displacement`, or `velocity`, a stationary velocity whose flow is a diffeomorphism and takes three
            times as long.
        start: a row whose displacement the optimisation starts from; None: no displacement.
        least_slack: of `spline.slack`, in (0, 1): how much compression and shear the field may have.
        final_step: the step length at a level's end as a part of that at its start.
        refresh: the number of iterations for which pc, oc and rigid-field keep the warped labels.
        penalty_every: penalties are computed in every so many iterations, with so many times their weight.
        tolerance_mm: a level ends when the labelled voxels move by less in ten iterations, as a root mean square.
    """

    penalties: dict[str, float | None] = Field(default_factory=dict)
    bending: float = Field(0.02, ge=0)
    levels: tuple[LevelSettings, ...] = Field(default=LEVELS, min_length=1)
    transform: Literal["displacement", "velocity"] = "displacement"
    start: str | None = None
    least_slack: float = Field(0.1, gt=0, lt=1)
    final_step: float = Field(0.1, gt=0, le=1)
    refresh: int = Field(10, ge=1)
    penalty_every: int = Field(2, ge=1)
    tolerance_mm: float = Field(0.01, ge=0)

    @model_validator(mode="after")
    def _usable(self) -> DeformableSettings:
        weights_of(self.penalties)
        return self
