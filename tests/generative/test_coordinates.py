"""Coordinates of generated clouds: inverse, symmetries, and what a file may hold."""

from __future__ import annotations

import pytest
import torch

import pcloud
from pcloud import kinematics
from pcloud.errors import InputError
from pcloud.generative import CloudCoordinates
from pcloud.generative.coordinates import particle_coordinates
from pcloud.modality import find_modality
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pooling import sum_pool


@pytest.fixture(scope="module")
def data():
    jets = pcloud.load_dataset("simulated", "test")[:60]
    inputs = CloudCoordinates.fit(jets, ["qcd", "top"])
    return find_modality("generator").dataset(jets, inputs)


def test_momenta_come_back_from_their_coordinates(data):
    inputs = data.feature_set
    layout = RaggedLayout.from_ptr(data.ptr)
    total = sum_pool(data.p4.double(), layout)
    found = inputs.momenta(data.x, data.u, kinematics.phi(total), layout)
    assert torch.allclose(found, data.p4.double(), rtol=1e-4, atol=2e-3)


def test_the_sum_of_the_particles_has_exactly_the_condition(data):
    inputs = data.feature_set
    layout = RaggedLayout.from_ptr(data.ptr)
    torch.manual_seed(1)
    x = torch.randn(len(data.x), 3)  # nothing like a jet
    phi = torch.linspace(-3, 3, len(data.u)).double()
    total = sum_pool(inputs.momenta(x, data.u, phi, layout), layout)
    u = data.u.double() * torch.tensor(inputs.jet_scale) + torch.tensor(inputs.jet_shift)
    assert torch.allclose(kinematics.pt(total), u[:, 0].exp(), rtol=1e-6)
    assert torch.allclose(kinematics.rapidity(total), u[:, 1], atol=1e-6)
    assert torch.allclose(
        kinematics.delta_phi(
            total,
            kinematics.from_pt_eta_phi_mass(
                torch.ones(len(phi)).double(), torch.zeros(len(phi)).double(), phi
            ),
        ),
        torch.zeros(len(phi)).double(),
        atol=1e-6,
    )


def test_coordinates_ignore_a_turn_and_a_boost_along_the_beam(data):
    layout = RaggedLayout.from_ptr(data.ptr)
    pt, eta, phi = (f(data.p4.double()) for f in (kinematics.pt, kinematics.eta, kinematics.phi))
    found = [
        particle_coordinates(p4, sum_pool(p4, layout), layout.batch)
        for p4 in (
            kinematics.from_pt_eta_phi_mass(pt, eta, phi),
            kinematics.from_pt_eta_phi_mass(pt, eta + 0.7, phi + 2.0),
        )
    ]
    assert torch.allclose(*found, atol=1e-6)


def test_inputs_are_standardised_and_stored(data):
    inputs = data.feature_set
    assert torch.allclose(data.x.mean(0), torch.zeros(3), atol=1e-3)
    assert torch.allclose(data.u.std(0), torch.ones(3), atol=2e-2)
    assert CloudCoordinates.from_dict(inputs.to_dict()) == inputs
    with pytest.raises(InputError, match="scale"):
        CloudCoordinates.from_dict(inputs.to_dict() | {"scale": [1.0, 0.0, 1.0]})
    with pytest.raises(InputError, match="max_particles"):
        CloudCoordinates.from_dict(inputs.to_dict() | {"max_particles": 0})
