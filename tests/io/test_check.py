from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcloud.errors import InputError
from pcloud.io.check import (
    SPACELIKE_TOLERANCE,
    check_units,
    describe,
    find_bad_jets,
    find_doubts,
)
from tests.io.conftest import make_flat

COLUMNS = {"E": "e_col", "px": "x_col", "pt": "pt_col", "d0": "d0_col", "label": "y_col"}


def jet_of(flat, particle):
    return int(np.searchsorted(flat.offsets, particle, side="right") - 1)


def test_good_jets_have_no_reasons():
    assert find_bad_jets(make_flat(extras=True), COLUMNS, 2) == {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("component", "value", "reason"),
    [
        (0, np.nan, "NaN or infinity in e_col"),
        (0, np.inf, "NaN or infinity in e_col"),
        (1, -np.inf, "NaN or infinity in x_col"),
        (3, np.nan, "NaN or infinity in pz"),
        (0, -5.0, "negative energy in e_col"),
        (0, 0.0, "zero energy in e_col"),
        (1, 1e6, "momentum above the energy in e_col"),
    ],
)
def test_one_bad_particle_makes_its_jet_bad(component, value, reason, dtype):
    flat = make_flat(num_jets=2000, dtype=dtype)  # more than one block of particles
    for particle in (0, 40_000, flat.offsets[-1] - 1):
        broken = [c.copy() for c in flat.p4]
        broken[component][particle] = value
        bad = find_bad_jets(type(flat)(flat.offsets, tuple(broken)), COLUMNS)
        assert {k: v.tolist() for k, v in bad.items()} == {reason: [jet_of(flat, particle)]}


@given(st.floats(min_value=-1, max_value=1), st.sampled_from([np.float32, np.float64]))
def test_rounding_is_forgiven_and_no_more(excess, dtype):
    """p^2 / E^2 = 1 + excess * (twice the tolerance)."""
    ratio = 1 + 2 * SPACELIKE_TOLERANCE * excess
    energy = np.array([100.0], dtype=dtype)
    pz = (100 * np.sqrt(np.array([ratio]))).astype(dtype)
    zero = np.zeros(1, dtype=dtype)
    flat = make_flat(num_jets=1, max_particles=1)
    bad = find_bad_jets(type(flat)(flat.offsets, (energy, zero, zero, pz)), {})
    if abs(excess - 0.5) > 1e-3:  # float32 knows the ratio to 1e-7
        assert bool(bad) == (excess > 0.5)


def test_empty_jets_are_bad():
    flat = make_flat(num_jets=3)
    flat.offsets = np.array([0, 0, flat.offsets[-1], flat.offsets[-1]])
    assert find_bad_jets(flat, {})["no particles"].tolist() == [0, 2]


def test_a_nan_in_an_extra_column_names_it():
    flat = make_flat(num_jets=5, extras=True)
    flat.particle["d0"][-1] = np.nan
    assert {k: v.tolist() for k, v in find_bad_jets(flat, COLUMNS, checked=["d0"]).items()} == {
        "NaN or infinity in d0_col": [4]
    }
    assert find_bad_jets(flat, COLUMNS, checked=["charge"]) == {}


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (0.5, "y_col not a whole number"),
        (np.nan, "y_col not a whole number"),
        (-1.0, "y_col negative or no class"),
        (2.0, "y_col above 1, the last class"),
    ],
)
def test_labels_must_name_a_class(label, reason):
    flat = make_flat(num_jets=4)
    flat.jet["label"] = np.array([0.0, 1.0, label, 1.0])
    assert {k: v.tolist() for k, v in find_bad_jets(flat, COLUMNS, 2).items()} == {reason: [2]}


def test_any_label_is_good_where_the_classes_are_not_known():
    flat = make_flat(num_jets=2)
    flat.jet["label"] = np.array([0, 187])
    assert find_bad_jets(flat, COLUMNS, 0) == {}


def test_negative_pt_is_bad():
    flat = make_flat(num_jets=3)
    pt = np.ones(flat.offsets[-1], dtype=np.float32)
    pt[-1] = -1
    assert find_bad_jets(flat, COLUMNS, 0, {"pt": pt})["negative pt in pt_col"].tolist() == [2]


def test_the_description_is_one_line_with_the_first_jets():
    text = describe({"zero energy in E": np.arange(10, 20), "no particles": np.array([3])})
    assert text == ("zero energy in E (jets 10, 11, 12, 13, 14 and 5 more); no particles (jet 3)")


@pytest.mark.parametrize("factor", [100, 3000])
def test_jets_above_the_energy_of_the_beam_suggest_another_unit(factor):
    flat = make_flat(num_jets=20)
    hard = type(flat)(flat.offsets, tuple(factor * c for c in flat.p4))
    check_units(flat, "a.h5", "GeV")
    with pytest.raises(
        InputError, match=r"a\.h5: the median jet pt .* unit='MeV' .*check_units=False"
    ):
        check_units(hard, "a.h5", "GeV")


def test_momenta_of_half_precision_may_exceed_the_energy_by_their_rounding():
    flat = make_flat(num_jets=300)
    half = tuple(component.astype(np.float16).astype(np.float32) for component in flat.p4)
    jets = type(flat)(flat.offsets, half)
    stored = dict(zip(("E", "px", "py", "pz"), half, strict=True))
    assert find_bad_jets(jets, {}, stored=stored) == {}
    assert find_bad_jets(jets, {}) != {}
    stored["E"] = half[0] * np.float32(1.0001)  # no longer of half precision
    assert find_bad_jets(jets, {}, stored=stored) != {}


def test_angles_in_degrees_and_codes_are_doubted():
    flat = make_flat(num_jets=20, extras=True)
    flat.particle["d0"][:3] = -999
    stored = {"phi": np.full(flat.offsets[-1], 170.0)}
    phi, code = find_doubts(flat, stored, COLUMNS)
    assert 'reaches 170: is it in degrees, not rad? Then write "phi * pi / 180"' in phi
    assert "d0 (d0_col) is -999 for 3 of the first" in code
    assert '"where(d0_col == -999, 0, d0_col)"' in code
    flat.particle["d0"][3] = -700  # a wide distribution
    assert find_doubts(flat, {"phi": np.full(flat.offsets[-1], 6.2)}, COLUMNS) == []
