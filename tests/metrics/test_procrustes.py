"""metrics/procrustes.py: known motions, a comparison with scipy, points that leave the rotation open, gradients."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from support.hand_built import rotation

from metrics.procrustes import fit_rigid


def test_fit_against_scipy() -> None:
    generator = np.random.default_rng(0)
    source, target = generator.normal(size=(20, 3)), generator.normal(size=(20, 3))
    weights = generator.uniform(size=20)
    r, t = fit_rigid(*(torch.from_numpy(v) for v in (source, target, weights)))
    middle = [np.average(v, axis=0, weights=weights) for v in (source, target)]
    reference, _ = Rotation.align_vectors(target - middle[1], source - middle[0], weights=weights)
    np.testing.assert_allclose(r, reference.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(t, middle[1] - reference.as_matrix() @ middle[0], atol=1e-12)


def test_fit_recovers_a_batch_of_motions_and_never_reflects() -> None:
    source = torch.randn(4, 30, 3, dtype=torch.float64)
    turns = torch.stack([rotation((40 * k, -20, 60)) for k in range(4)])
    shifts = torch.randn(4, 3, dtype=torch.float64)
    r, t = fit_rigid(source, source @ turns.mT + shifts[:, None])
    torch.testing.assert_close(r, turns)
    torch.testing.assert_close(t, shifts)
    mirrored = source * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(torch.linalg.det(fit_rigid(source, mirrored)[0]), torch.ones(4, dtype=torch.float64))


def test_fit_of_one_point_or_a_line_has_the_least_rotation() -> None:
    r, t = fit_rigid(torch.tensor([[1.0, 2, 3]]), torch.tensor([[2.0, 2, 5]]))
    torch.testing.assert_close(r, torch.eye(3))
    torch.testing.assert_close(t, torch.tensor([1.0, 0, 2]))
    line = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None] * torch.tensor([0.0, 0, 1])
    turn = rotation((30, 0, 0))
    torch.testing.assert_close(fit_rigid(line, line @ turn.mT)[0], turn, atol=1e-6, rtol=0)


def test_fit_without_weight_or_with_nan_is_nan_for_that_item_alone() -> None:
    source = torch.randn(3, 5, 3)
    target, weights = source.clone(), torch.ones(3, 5)
    target[0, 0, 0], weights[1] = torch.nan, 0
    r, t = fit_rigid(source, target, weights)
    assert r.isnan().flatten(1).all(1).tolist() == t.isnan().all(1).tolist() == [True, True, False]


def test_fit_gradient_also_where_singular_values_agree() -> None:
    cube = torch.tensor([[z, y, x] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)], dtype=torch.float64)
    target = (cube @ rotation((10, 20, 30)).mT + 1).requires_grad_()
    weights = torch.ones(8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fit_rigid, (cube.requires_grad_(), target, weights))
    source, other = (torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(fit_rigid, (source, other))
