"""Learned frames: Lorentz transformations that follow their momenta."""

from __future__ import annotations

import pytest
import torch

from pcloud import kinematics as kin
from pcloud.nn import RaggedLayout
from pcloud.nn.lorentz.frames import (
    FrameNetwork,
    minkowski_inverse,
    polar_frames,
    transform_vectors,
)
from tests.models.contract import make_jets
from tests.models.test_symmetry import lorentz_transformation

METRIC = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64).diag()
REFERENCES = torch.tensor(
    [[1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, -1.0], [2.0, 0.0, 0.0, 0.0]], dtype=torch.float64
)


def vectors(number: int) -> torch.Tensor:
    """Three massive four-vectors for each frame."""
    torch.manual_seed(0)
    momentum = torch.randn(number, 3, 3, dtype=torch.float64)
    energy = (momentum.square().sum(-1, keepdim=True) + 0.1).sqrt()
    return torch.cat([energy, momentum], dim=-1)


def frames_of(counts: list[int], matrix: torch.Tensor | None = None):
    torch.manual_seed(0)
    network = FrameNetwork(len(REFERENCES)).double()
    _, p4, batch = make_jets(counts)
    p4, references = p4.double() / 20, REFERENCES
    if matrix is not None:
        p4, references = p4 @ matrix.T, references @ matrix.T
    return network(p4, references, RaggedLayout.from_batch(batch))


def test_polar_frames_are_proper_transformations_to_the_rest_frame():
    v = vectors(50)
    frames = polar_frames(v)
    torch.testing.assert_close(
        frames @ METRIC @ frames.mT, METRIC.expand(50, 4, 4), atol=1e-10, rtol=0
    )
    torch.testing.assert_close(torch.linalg.det(frames), torch.ones(50).double())
    assert (frames[:, 0, 0] >= 1).all()
    time, first, second = (frames @ v.mT).unbind(-1)
    mass = kin.mass(v[:, 0])
    torch.testing.assert_close(time, torch.stack([mass, *[torch.zeros_like(mass)] * 3], -1))
    assert first[:, 2:].abs().max() < 1e-10
    assert (first[:, 1] > 0).all()
    assert second[:, 3].abs().max() < 1e-10
    assert (second[:, 2] > 0).all()
    torch.testing.assert_close(minkowski_inverse(frames), torch.linalg.inv(frames))


def test_polar_frames_are_those_of_the_authors_code():
    decomposition = pytest.importorskip("lloca.utils.polar_decomposition")
    v = vectors(50)
    expected = decomposition.polar_decomposition(v[:, 0], v[:, 1:])
    torch.testing.assert_close(polar_frames(v), expected, rtol=0, atol=1e-8)


@pytest.mark.rounding
@pytest.mark.parametrize("gamma", [1.0, 10.0])
@torch.no_grad()
def test_frames_follow_a_transformation_of_momenta_and_references(gamma):
    matrix = lorentz_transformation(gamma, 1)
    counts = [1, 2, 30, 12]
    before, after = frames_of(counts), frames_of(counts, matrix)
    for name in ("particles", "jets"):
        torch.testing.assert_close(
            getattr(after, name) @ matrix, getattr(before, name), rtol=0, atol=1e-8
        )
    torch.testing.assert_close(after.relative, before.relative, rtol=0, atol=1e-8)
    torch.testing.assert_close(
        before.relative @ before.jets[make_jets(counts)[2]], before.particles, rtol=0, atol=1e-8
    )


@torch.no_grad()
def test_frames_of_an_empty_jet_and_of_one_particle_without_references_are_finite():
    network = FrameNetwork(0).double()
    layout = RaggedLayout.from_ptr(torch.tensor([0, 0, 1]))
    p4 = torch.tensor([[2.0, 1.0, 0.5, 0.2]], dtype=torch.float64)
    found = network(p4, p4[:0], layout)
    assert all(part.isfinite().all() for part in (found.particles, found.jets, found.relative))
    none = network(p4[:0], p4[:0], RaggedLayout.from_ptr(torch.tensor([0, 0])))
    assert none.particles.shape == (0, 4, 4)


def test_the_last_channels_are_four_vectors():
    x = torch.randn(5, 19, dtype=torch.float64)
    matrices = polar_frames(vectors(5))
    moved = transform_vectors(x, matrices)
    assert torch.equal(moved[:, :11], x[:, :11])
    for i in (11, 15):
        expected = (matrices @ x[:, i : i + 4].unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(moved[:, i : i + 4], expected)
    assert torch.equal(transform_vectors(x[:, :7], matrices), x[:, :7])
