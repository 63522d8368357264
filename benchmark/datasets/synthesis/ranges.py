"""The ranges from which anatomy and appearance are drawn: one generator, two settings.

`TRAINING` is for patients of the splits train and val, `SHIFTED` for those of the split test. A range of SHIFTED that
differs lies outside the range of TRAINING, so that a network which learned the generator instead of the task is found
out. What is not listed here (levels, sizes, ages, sexes) follows publications and is the same in both.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

Range = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """Ranges (low, high) of values that are drawn once a patient, unless said.

    Attributes:
        kyphosis, lordosis: factors on the mean angles between thoracic and between lumbar neighbours.
        process_length: factor on the lengths of the spinous and transverse processes.
        process_width: factor on their radii.
        irregularity_mm: amplitude of the smooth deviation of each vertebra from its symmetric shape.
        waist: relative narrowing of the body at half height, of each vertebra.
        concavity_mm: depth of the endplates, of each vertebra.
        disc_height: factor on the heights of discs.
        joint_space_mm: between facets.
        body_shell_mm, endplate_shell_mm, arch_shell_mm: thickness of the cortex of walls of bodies, endplates, arches.
        cortical_hu: HU of compact bone.
        marrow_sd_hu: standard deviation of the marrow's HU over the vertebrae of a patient.
        endplate_hu: excess of the marrow's HU below the endplates.
        trabeculae_hu: standard deviation of the trabecular texture.
        muscle_size: factor on the radii of muscles.
        muscle_fat: share of fat streaks in muscle.
        subcutaneous_mm: thickness of the fat below the skin.
        enhanced_hu: HU of arterial blood after a contrast agent.
        ct_noise_hu: standard deviation of the noise at 1 mm, drawn on a logarithmic scale.
        ct_noise_grain_mm: width of a grain of the noise in the axial plane.
        sharpening: strength of the edge enhancement of a CT's kernel.
        streaks_hu: amplitude of streaks.
        mr_bias: standard deviation of the logarithm of the coil's bias field.
        mr_noise: standard deviation of the noise, relative to the brightest tissue.
        mr_spread: factor on the standard deviations of tissue signals over patients.
        mr_slice_gap: gap between sagittal slices, relative to their thickness.
        mr_resolution_mm: distance of the samples in the sagittal plane.
    """

    kyphosis: Range = (0.4, 2.0)
    lordosis: Range = (0.4, 1.3)
    process_length: Range = (0.75, 1.1)
    process_width: Range = (0.85, 1.15)
    irregularity_mm: Range = (0.3, 1.0)
    waist: Range = (0.06, 0.18)
    concavity_mm: Range = (0.3, 2.4)
    disc_height: Range = (0.5, 1.1)
    joint_space_mm: Range = (0.8, 1.6)
    body_shell_mm: Range = (0.3, 0.9)
    endplate_shell_mm: Range = (0.4, 1.4)
    arch_shell_mm: Range = (0.6, 1.8)
    cortical_hu: Range = (550.0, 1000.0)
    marrow_sd_hu: Range = (8.0, 30.0)
    endplate_hu: Range = (0.0, 120.0)
    trabeculae_hu: Range = (15.0, 55.0)
    muscle_size: Range = (0.75, 1.15)
    muscle_fat: Range = (0.02, 0.25)
    subcutaneous_mm: Range = (5.0, 30.0)
    enhanced_hu: Range = (120.0, 450.0)
    ct_noise_hu: Range = (6.0, 60.0)
    ct_noise_grain_mm: Range = (0.4, 1.1)
    sharpening: Range = (0.0, 0.8)
    streaks_hu: Range = (0.0, 18.0)
    mr_bias: Range = (0.08, 0.25)
    mr_noise: Range = (0.01, 0.035)
    mr_spread: Range = (0.8, 1.3)
    mr_slice_gap: Range = (0.0, 0.2)
    mr_resolution_mm: Range = (0.5, 1.0)

    def differing(self, other: Ranges) -> dict[str, tuple[Range, Range]]:
        """Name the ranges in which two settings differ, with both ranges."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


TRAINING = Ranges()
SHIFTED = Ranges(
    process_length=(1.1, 1.25),
    process_width=(0.75, 0.85),
    irregularity_mm=(1.0, 1.4),
    waist=(0.18, 0.22),
    concavity_mm=(2.4, 3.0),
    joint_space_mm=(1.6, 2.0),
    cortical_hu=(1000.0, 1150.0),
    marrow_sd_hu=(30.0, 40.0),
    endplate_hu=(120.0, 160.0),
    muscle_fat=(0.25, 0.4),
    ct_noise_hu=(60.0, 80.0),
    ct_noise_grain_mm=(1.1, 1.4),
    streaks_hu=(18.0, 28.0),
    mr_bias=(0.25, 0.32),
    mr_noise=(0.035, 0.045),
    mr_spread=(1.3, 1.6),
    mr_slice_gap=(0.2, 0.3),
    mr_resolution_mm=(1.0, 1.2),
)
