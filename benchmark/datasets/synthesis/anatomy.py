"""A procedural thoracolumbar spine: levels, sizes, curvature and changes with age.

Mean dimensions per level are rounded after the two standard measurements of human vertebrae:
Panjabi et al., Thoracic human vertebrae, Spine 16(8):888-901, 1991, doi:10.1097/00007632-199108000-00006;
Panjabi et al., Human lumbar vertebrae, Spine 17(3):299-306, 1992, doi:10.1097/00007632-199203000-00010.
Women's bodies have 75 % of the cross-section and 73 % of the volume of men's: Gilsanz et al., Radiology 190(3):678-682,
1994, doi:10.1148/radiology.190.3.8115610.
Disc heights and the angles between neighbours are rounded after the usual radiological ranges (kyphosis T1-T12 about
40 degrees, lordosis L1-L5 about 40 degrees standing, less when lying). The rates of spurs and of collapsed vertebrae
are chosen by this project.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.ranges import TRAINING, Ranges
from benchmark.datasets.synthesis.vertebra import SACRUM, T12, Spur, Vertebra, Wave

T1, L1, L5 = 8, 20, 24
APEX = 15  # of the kyphosis: T8
AGES = (25.0, 85.0)
# Relative difference of women and of men from their common mean: of width and depth, and of height.
SEX_WIDTH, SEX_HEIGHT = 0.072, 0.015
# Probabilities per year of age: of a spur on a rim, from 40 on; of one collapsed vertebra in a patient, from 50 on.
SPUR_PER_YEAR, FRACTURE_PER_YEAR = 0.007, 0.003
POSTURE_DEG = (6.0, 2.5)  # standard deviations of the pitch and the roll of a patient
BRIDGING_PER_YEAR = 0.008  # of osteophytes that bridge discs in a patient, from 50 on
# Shares of patients with 5 to 10 labelled vertebrae: the mean is 7.7, as in the paper (1280 in 167 patients).
_COUNT_SHARES = (0.13, 0.17, 0.18, 0.19, 0.17, 0.16)
_DIMENSIONS = (
    *("width", "depth", "height", "disc", "canal_width", "canal_depth"),
    *("pedicle_width", "pedicle_height", "span", "reach"),
)

# One line for each level, T1 to L5, and one that replaces S1. In mm: width, depth, height of the body; disc below;
# width, depth of the canal; width, height of the pedicle; transverse span; spinous reach. In degrees: the angle to the
# next level (lordosis > 0).
_LEVELS = np.array(
    [
        (28.0, 18.5, 14.5, 4.0, 21.5, 16.0, 8.5, 9.5, 75, 33, -2.0),
        (28.0, 19.5, 15.5, 3.5, 19.5, 15.5, 8.0, 11.5, 69, 35, -2.5),
        (27.0, 21.5, 15.5, 3.5, 18.5, 15.5, 7.0, 12.0, 61, 36, -3.0),
        (26.5, 23.0, 16.0, 3.5, 17.0, 15.5, 6.3, 12.0, 59, 37, -4.0),
        (26.5, 24.5, 16.5, 3.5, 17.0, 15.5, 6.0, 12.0, 61, 38, -4.5),
        (27.5, 26.0, 17.5, 4.0, 17.0, 15.5, 6.0, 12.0, 61, 38, -4.5),
        (29.0, 27.5, 18.0, 4.0, 17.5, 15.5, 6.2, 12.0, 60, 38, -4.0),
        (30.5, 28.5, 18.5, 4.5, 17.5, 15.5, 6.7, 12.5, 60, 37, -4.0),
        (31.5, 29.5, 19.5, 5.0, 18.0, 15.5, 7.7, 13.8, 59, 35, -3.5),
        (33.0, 30.5, 20.0, 5.5, 18.0, 15.5, 9.0, 15.0, 58, 32, -3.0),
        (36.0, 32.0, 21.5, 6.0, 19.5, 16.0, 9.8, 17.0, 52, 30, -2.5),
        (39.5, 33.0, 23.0, 7.0, 22.0, 18.0, 8.8, 16.5, 47, 30, -1.0),
        (41.5, 34.0, 24.5, 8.0, 23.5, 19.0, 9.0, 16.0, 71, 33, 3.0),
        (43.0, 34.5, 25.0, 9.0, 24.0, 18.5, 9.2, 15.5, 76, 34, 5.0),
        (45.0, 35.0, 25.0, 10.0, 24.5, 17.5, 10.5, 15.0, 84, 34, 8.0),
        (47.5, 35.5, 25.0, 10.5, 25.5, 18.5, 14.0, 15.5, 80, 31, 11.0),
        (49.0, 35.0, 24.5, 10.0, 27.0, 19.5, 18.0, 18.5, 88, 25, 16.0),
        (50.0, 34.0, 28.0, 0.0, 30.0, 15.0, 24.0, 20.0, 100, 16, 0.0),
    ]
)

# Level (VerSe id), taper of the body to the back, droop of the spinous process in degrees, taper of the canal to the
# back; linear in between. Thoracic bodies are heart-shaped and their canals round; lumbar canals are triangular.
_SHAPES = np.array(
    [
        (8, 0.00, 30, 0.00),
        (10, 0.08, 48, 0.00),
        (12, 0.15, 60, 0.00),
        (15, 0.18, 55, 0.00),
        (17, 0.14, 42, 0.05),
        (18, 0.10, 28, 0.08),
        (19, 0.06, 8, 0.12),
        (20, 0.03, 5, 0.15),
        (24, 0.00, 5, 0.35),
        (26, 0.00, 20, 0.35),
    ]
)
# Waves of each vertebra's deviation from its symmetric shape, and their lengths in mm.
_WAVES, _WAVE_MM = 4, (24.0, 60.0)


@dataclass(frozen=True)
class Spine:
    """The vertebrae of one patient.

    vertebrae: from the top down. labelled: the ids that have a label; neighbours above and below have none.
    woman, age_years: of the patient. collapsed: the id of a vertebra with a compression fracture, or None.
    joint_space_mm: between facets.
    """

    vertebrae: tuple[Vertebra, ...]
    labelled: tuple[int, ...]
    woman: bool
    age_years: float
    collapsed: int | None
    joint_space_mm: float = 1.2

    def extent_mm(self) -> np.ndarray:
        """The box around the labelled vertebrae: its least and greatest LPS mm, float64 (2, 3)."""
        boxes = [v.extent_mm() for v in self.vertebrae if v.id in self.labelled]
        return np.stack([np.min(boxes, axis=0)[0], np.max(boxes, axis=0)[1]])


def draw_spine(rng: PortableRng, count: int | None = None, ranges: Ranges = TRAINING) -> Spine:
    """Draw the spine of one patient.

    Args:
        rng: draws every parameter.
        count: number of labelled vertebrae; None draws 5 to 10.
        ranges: of the shapes.

    Returns:
        Labelled neighbours between T1 and L5, with two more vertebrae above, and two or the sacrum below.
    """
    drawn = rng.choose(np.arange(5, 11), _COUNT_SHARES)
    count = drawn if count is None else count
    lowest = np.arange(T1 + 2, L5 + 1)
    # Lumbar scans are the most common; the weight is 0 where `count` vertebrae would reach above T1.
    bottom = rng.choose(lowest, np.where(lowest >= L5 - 1, 3.0, 1.0) * (lowest - count + 1 >= T1))
    labelled = tuple(range(bottom - count + 1, bottom + 1))
    ids = [*range(labelled[0] - 2, min(bottom + 2, L5) + 1), *([SACRUM] if bottom + 2 > L5 else [])]
    woman, age = rng.chance(0.5), rng.uniform(*AGES)
    sex = (-1 if woman else 1) * np.array([SEX_WIDTH, SEX_WIDTH, SEX_HEIGHT])
    size = rng.normal(1.0, 0.05) * (1 + sex) * (1 + rng.normal(0, 0.02, 3))
    habit = _draw_habit(age, rng, ranges)
    vertebrae = [_draw_vertebra(i, size, age, habit, rng, ranges) for i in ids]
    curvature = rng.uniform(*ranges.kyphosis), rng.uniform(*ranges.lordosis)
    angles = np.array([_angle(i, curvature) for i in ids]) + rng.normal(0, 1.0, len(ids))
    scoliosis = rng.normal(0, 1.2) * np.sin(np.linspace(0, np.pi, len(ids)) + rng.uniform(0, np.pi))
    collapsed = None
    if rng.chance(FRACTURE_PER_YEAR * max(age - 50, 0)):
        place = rng.choose(np.arange(2, count + 2), np.ones(count))
        collapsed, vertebrae[place], kyphosis = ids[place], *_collapse(vertebrae[place], rng)
        angles[place - 1 : place + 1] -= kyphosis / 2
    # The vertebra at the apex of the kyphosis is upright, in a patient who lies straight.
    pitch = _angle_from_apex(ids[len(ids) // 2], curvature) + POSTURE_DEG[0] * rng.normal()
    posture = _rotation(*np.deg2rad([pitch, POSTURE_DEG[1] * rng.normal()]))
    stacked = _stack(vertebrae, np.deg2rad(angles), np.deg2rad(scoliosis), posture)
    return Spine(stacked, labelled, woman, age, collapsed, rng.uniform(*ranges.joint_space_mm))


def _angle(level: int, curvature: tuple[float, float]) -> float:
    """The mean angle of a vertebra to the next below in degrees, lordosis > 0. curvature: thoracic, lumbar factor."""
    return float(_level(level)[10]) * curvature[level >= T12]


def _angle_from_apex(level: int, curvature: tuple[float, float]) -> float:
    """The mean angle of a vertebra against that at the apex of the kyphosis; arguments and unit of `_angle`."""
    low, high = sorted((APEX, level))
    between = sum(_angle(i, curvature) for i in range(low, high))
    return between if level > APEX else -between


def _level(level: int) -> np.ndarray:
    # C7 has the sizes of T1, and S1 a line of its own.
    return _LEVELS[min(max(level, T1), L5 + 1) - T1]


@dataclass(frozen=True)
class _Habit:
    """What the vertebrae of a patient have in common besides their size; names as in `Ranges`."""

    process_length: float
    process_width: float
    irregularity_mm: float
    disc_height: float
    bridging_degrees: float | None


def _draw_habit(age: float, rng: PortableRng, ranges: Ranges) -> _Habit:
    drawn = (ranges.process_length, ranges.process_width, ranges.irregularity_mm, ranges.disc_height)
    length, width, irregularity, disc = (rng.uniform(*r) for r in drawn)
    bridging, degrees = rng.chance(BRIDGING_PER_YEAR * max(age - 50, 0)), rng.uniform(-60, 30)
    return _Habit(length, width, irregularity, disc, degrees if bridging else None)


def _draw_vertebra(
    level: int, size: np.ndarray, age: float, habit: _Habit, rng: PortableRng, ranges: Ranges
) -> Vertebra:
    x, y, z = size
    disc = z * (1 - 0.003 * (age - 55))
    # The size of the canal does not depend on the size of the patient.
    scale = np.array([x, y, z, disc, 1, 1, x, z, x, y]) * (1 + rng.normal(0, 0.025, 10))
    scale[3] *= habit.disc_height * np.exp(rng.normal(0, 0.15))
    scale[8:] *= habit.process_length * (1 + rng.normal(0, 0.05, 2))
    sizes = dict(zip(_DIMENSIONS, (_level(level)[:10] * scale).tolist(), strict=True))
    taper, droop, canal_taper = (float(np.interp(level, _SHAPES[:, 0], column)) for column in _SHAPES[:, 1:].T)
    shape = {
        "taper": taper + rng.normal(0, 0.03),
        "droop_deg": droop + rng.normal(0, 5.0),
        "canal_taper": max(canal_taper + rng.normal(0, 0.03), 0.0),
        "waist": rng.uniform(*ranges.waist),
        "concavity": rng.uniform(*ranges.concavity_mm),
    }
    tips = rng.normal(0, 1.2, (3, 3)) * habit.process_length
    waves = _draw_waves(rng, habit.irregularity_mm)
    wedge, spurs = rng.normal(0.0, 0.02), []
    for end in (1, 1, -1, -1):
        # All three are drawn even without a spur, so that the following draws do not depend on it.
        present, degrees, length = (
            rng.chance(SPUR_PER_YEAR * max(age - 40, 0)),
            rng.uniform(-120, 120),
            rng.uniform(1.5, 5),
        )
        if present:
            spurs.append(Spur(degrees, end, length))
        bridges, aside, long = rng.chance(0.6), rng.normal(0, 15), rng.uniform(3, 6)
        if habit.bridging_degrees is not None and bridges:
            spurs.append(Spur(habit.bridging_degrees + aside, end, long, rise=rng.uniform(0.5, 1.0)))
    return Vertebra(
        level, **sizes, **shape, wedge=wedge, spurs=tuple(spurs), centre_mm=np.zeros(3), rotation=np.eye(3),
        process_width=habit.process_width * (1 + rng.normal(0, 0.05)), tips=tips, waves=waves,
    )  # fmt: skip


def _draw_waves(rng: PortableRng, amplitude_mm: float) -> tuple[Wave, ...]:
    """Draw waves of random directions. amplitude_mm: root mean square of the deviation along each axis."""
    waves = []
    for _ in range(_WAVES):
        direction, length = rng.normal(size=3), rng.uniform(*_WAVE_MM)
        k = direction / max(float(np.linalg.norm(direction)), 1e-6) * (2 * np.pi / length)
        # Short waves are weaker, so that the deformation stays far from folding.
        amplitude = rng.normal(0, amplitude_mm * np.sqrt(2 / _WAVES) * length / _WAVE_MM[1], 3)
        waves.append(Wave(tuple(k.tolist()), rng.uniform(0, 2 * np.pi), tuple(amplitude.tolist())))
    return tuple(waves)


def _collapse(v: Vertebra, rng: PortableRng) -> tuple[Vertebra, float]:
    """The vertebra after a compression fracture, lower in front than behind, and the added kyphosis in degrees."""
    loss = rng.uniform(0.2, 0.4)  # of the height in front
    middle = 1 - 0.65 * loss
    wedge = v.wedge + 1 - (1 - loss) / middle
    height = middle * v.height
    return replace(v, height=height, wedge=wedge), float(np.rad2deg(2 * wedge * height / v.depth))


def _stack(
    vertebrae: list[Vertebra], sagittal: np.ndarray, lateral: np.ndarray, posture: np.ndarray
) -> tuple[Vertebra, ...]:
    """Place vertebrae below each other, each rotated against the one above; the middle one has the posture (3, 3)."""
    centre, rotation = np.zeros(3), np.eye(3)
    poses = [(centre, rotation)]
    for above, below, a, b in zip(vertebrae, vertebrae[1:], sagittal, lateral, strict=False):
        half = rotation @ _rotation(a / 2, b / 2)
        # Posterior walls are aligned, so that the canal has no steps.
        step = half[:, 1] * (above.depth - below.depth) / 2 - half[:, 2] * above.disc
        next_rotation = rotation @ _rotation(a, b)
        centre = centre - rotation[:, 2] * above.height / 2 + step - next_rotation[:, 2] * below.height / 2
        rotation = next_rotation
        poses.append((centre, rotation))
    origin, upright = poses[len(poses) // 2]
    upright = upright @ posture.T
    return tuple(
        replace(v, centre_mm=upright.T @ (c - origin), rotation=upright.T @ r)
        for v, (c, r) in zip(vertebrae, poses, strict=True)
    )


def _rotation(about_x: float, about_y: float) -> np.ndarray:
    cx, sx, cy, sy = np.cos(about_x), np.sin(about_x), np.cos(about_y), np.sin(about_y)
    return np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
