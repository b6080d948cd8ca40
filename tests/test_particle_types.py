"""Charge and type from PDG codes."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import torch

from pcloud.batch import JetDataset
from pcloud.errors import InputError, UnknownNameError
from pcloud.io import read_jets
from pcloud.particle_types import PARTICLE_TYPES, decode_remapped, particle_types

CHARGED, NEUTRAL, PHOTON, ELECTRON, MUON = np.eye(5, dtype=int).tolist()
NONE = [0, 0, 0, 0, 0]
TABLE = {
    0: (0, NONE),
    22: (0, PHOTON),
    11: (-1, ELECTRON),
    -11: (1, ELECTRON),
    13: (-1, MUON),
    -13: (1, MUON),
    12: (0, NONE),
    -14: (0, NONE),
    111: (0, NEUTRAL),
    130: (0, NEUTRAL),
    310: (0, NEUTRAL),
    311: (0, NEUTRAL),
    -311: (0, NEUTRAL),
    211: (1, CHARGED),
    -211: (-1, CHARGED),
    321: (1, CHARGED),
    -321: (-1, CHARGED),
    2212: (1, CHARGED),
    -2212: (-1, CHARGED),
    2112: (0, NEUTRAL),
    -2112: (0, NEUTRAL),
    3122: (0, NEUTRAL),
    3112: (-1, CHARGED),
    3222: (1, CHARGED),
    3312: (-1, CHARGED),
    -3312: (1, CHARGED),
    3322: (0, NEUTRAL),
    3334: (-1, CHARGED),
    411: (1, CHARGED),
    421: (0, NEUTRAL),
    -431: (-1, CHARGED),
    511: (0, NEUTRAL),
    521: (1, CHARGED),
    -541: (-1, CHARGED),
    2224: (2, CHARGED),
    4122: (1, CHARGED),
    5122: (0, NEUTRAL),
    5132: (-1, CHARGED),
    113: (0, NEUTRAL),
    213: (1, CHARGED),
    443: (0, NEUTRAL),
    9000211: (1, CHARGED),
    100211: (1, CHARGED),
    1000010020: (1, CHARGED),
    -1000020040: (-2, CHARGED),
}
IMPOSSIBLE = [1, 2, -5, 21, 15, 23, 24, 25, -22, -111, -130, 2101, 1103, 999999, 1000022, 0.1]


def test_charge_and_flags_are_those_of_the_table():
    columns = particle_types(np.array(list(TABLE)))
    assert tuple(columns) == PARTICLE_TYPES
    rows = np.stack(list(columns.values()), axis=1).tolist()
    expected = [[charge, *flags] for charge, flags in TABLE.values()]
    assert dict(zip(TABLE, rows, strict=True)) == dict(zip(TABLE, expected, strict=True))


@pytest.mark.parametrize("code", IMPOSSIBLE)
def test_codes_of_no_particle_in_a_jet_are_refused(code):
    with pytest.raises(InputError, match=rf"2 of 3 particles.*: {code}; use 0"):
        particle_types(np.array([211, code, code]))


def make_jets(pid):
    counts = [2, 3]
    columns = {name: np.ones(5) for name in ("px", "py", "pz")} | {"E": np.full(5, 2.0)}
    fields = {"p4": ak.unflatten(ak.zip(columns, with_name="Momentum4D"), counts)}
    fields |= {"pid": ak.unflatten(np.array(pid), counts)} if pid is not None else {}
    return ak.zip(fields, depth_limit=1)


def test_a_data_set_takes_the_types_from_the_codes():
    data = JetDataset(make_jets([22, 211, -11, 130, 13]), "kinpid")
    assert data.feature_set.names[5:11] == PARTICLE_TYPES
    assert data.x.dtype == torch.float32
    expected = [[0, *PHOTON], [1, *CHARGED], [1, *ELECTRON], [0, *NEUTRAL], [-1, *MUON]]
    assert data.in_input_order(data.x)[:, 5:11].int().tolist() == expected


def test_stored_types_go_before_the_codes():
    jets = make_jets([22, 211, -11, 130, 13])
    jets = ak.with_field(jets, ak.unflatten(np.full(5, 7), [2, 3]), "charge")
    data = JetDataset(jets, "kinpid")
    x = data.in_input_order(data.x)
    assert (x[:, 5] == 7).all()
    assert x[0, 8] == 1  # photon


def test_jets_without_codes_have_no_types():
    with pytest.raises(UnknownNameError, match="charge"):
        JetDataset(make_jets(None), "kinpid")


def test_codes_of_remap_pids_are_decoded():
    numbers = np.arange(14) / 10
    codes = [22, 211, -211, 321, -321, 130, 2112, -2112, 2212, -2212, 11, -11, 13, -13]
    np.testing.assert_array_equal(decode_remapped(numbers), codes)
    np.testing.assert_array_equal(decode_remapped(numbers.astype(np.float32)), codes)
    for other in (np.array([211.0, 22.0]), np.array([211, 0]), np.array([0.1, 211.0])):
        assert decode_remapped(other) is other


@pytest.mark.parametrize("remapped", [False, True])
def test_energyflow_files_give_kinpid(tmp_path, remapped):
    X = np.zeros((4, 3, 4))
    X[:, :2] = [[10.0, 0.1, 0.2, 0.3 if remapped else 321], [5.0, -0.1, 0.1, 0 if remapped else 22]]
    np.savez(tmp_path / "qg.npz", X=X, y=np.array([0, 1, 0, 1]))
    jets = read_jets(tmp_path / "qg.npz")
    x = JetDataset(jets, "kinpid").x
    assert x[::2, 5:11].int().tolist() == [[1, *CHARGED]] * 4
    assert x[1::2, 5:11].int().tolist() == [[0, *PHOTON]] * 4
