"""Fields as in Fig. 1: the slice of a field, and the case and rows drawn."""

from __future__ import annotations

import numpy as np

from reports.figures.fig1 import field_slice, fig1, fig1_data


def test_the_field_on_a_slice_is_cut_and_its_determinant_is_that_of_the_volume():
    z, y, x = np.mgrid[:8, :9, :7].astype(np.float32)
    # Stretch by 10 % along x, 20 % along z, in mm on a grid of 2 x 1 x 3 mm: |J| = 1.1 * 1.2.
    field = np.stack([0.1 * x * 2, 0 * y, 0.2 * z * 3], axis=-1)
    cut = field_slice(field, 3, (2.0, 1.0, 3.0))
    np.testing.assert_allclose(cut.determinant, 1.1 * 1.2, rtol=1e-5)
    np.testing.assert_allclose(cut.arrows_mm[..., 1], 0.6 * z[:, :, 0], rtol=1e-5)
    assert cut.arrows_mm.shape == (8, 9, 2)


def test_fig1_draws_the_display_case(run_folder, data):
    fields = fig1_data(data, run_folder)
    assert fields.slices.case == "test-data-000" and list(fields.rows) == ["Staring", "VoxelMorph", "pc", "volume"]
    figure = fig1(fields)
    assert [axes.get_title() for axes in figure.axes[:4]] == list(fields.rows)


def test_a_run_without_pictures_has_no_fields(tmp_path, data):
    assert fig1_data(data, tmp_path) is None
