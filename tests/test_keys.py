"""Keys of jets, splits and draws by them, fingerprints."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from pcloud.io.jets import FlatJets, as_offsets
from pcloud.keys import (
    Fingerprint,
    fingerprint_hashes,
    in_split,
    jet_keys,
    keys_of,
    labelled,
    row_keys,
    shuffled,
    smallest,
)

FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}


def make(num_jets: int, seed: int = 0, dtype: type = np.float64, most: int = 6) -> FlatJets:
    rng = np.random.default_rng(seed)
    offsets = as_offsets(rng.integers(1, most, num_jets))
    momentum = rng.normal(size=(3, offsets[-1]))
    p4 = np.stack([np.sqrt((momentum**2).sum(axis=0)), *momentum]).astype(dtype)
    return FlatJets(offsets, tuple(p4), jet={"label": rng.integers(0, 2, num_jets)})


def keys(jets: FlatJets) -> np.ndarray:
    return jet_keys(jets.offsets, jets.p4)


def reordered(jets: FlatJets, seed: int = 0) -> FlatJets:
    """The same jets with the particles of each in another order."""
    rng = np.random.default_rng(seed)
    jet = np.repeat(np.arange(len(jets)), jets.counts)
    order = np.lexsort((rng.random(len(jet)), jet))
    return FlatJets(jets.offsets, tuple(c[order] for c in jets.p4), jet=jets.jet)


def test_a_key_depends_neither_on_the_order_of_particles_nor_on_the_precision() -> None:
    jets = make(2000)
    expected = keys(jets)
    assert expected.dtype == np.uint64
    np.testing.assert_array_equal(keys(reordered(jets)), expected)
    single = FlatJets(jets.offsets, tuple(c.astype(np.float32) for c in jets.p4))
    np.testing.assert_array_equal(keys(single), expected)
    np.testing.assert_array_equal(keys_of(reordered(single, 1).to_awkward()), expected)


def test_particles_that_are_equal_after_rounding_do_not_change_the_key() -> None:
    """Sorted in float64, the second and third particle would be exchanged."""
    energies = np.array([5.0, 1.0, 1.0 + 1e-12])
    px = np.array([0.1, 0.3, 0.2])
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        p4 = [c[order] for c in (energies, px, px, px)]
        found = jet_keys(np.array([0, 3]), p4)
        assert found == jet_keys(np.array([0, 3]), [energies, px, px, px])
    both = jet_keys(np.array([0, 2, 4]), [np.array([1.0, 1, 2, 2])] * 4)
    assert both[0] != both[1]  # pairs of equal particles do not cancel


def test_a_key_depends_on_every_number_and_on_its_place() -> None:
    jets = make(1, most=5)
    expected = keys(jets)[0]
    for i in range(4):
        for particle in range(len(jets.p4[0])):
            p4 = [c.astype(np.float32) for c in jets.p4]
            p4[i][particle] = np.nextafter(p4[i][particle], np.float32(9))
            assert jet_keys(jets.offsets, p4)[0] != expected
    energy, px, py, pz = jets.p4
    assert jet_keys(jets.offsets, [energy, py, px, pz])[0] != expected


def test_negative_zero_is_zero_and_a_zero_particle_is_padding() -> None:
    one = jet_keys(np.array([0, 1]), [np.array([2.0]), *[np.array([0.0])] * 3])
    assert one == jet_keys(np.array([0, 1]), [np.array([2.0]), *[np.array([-0.0])] * 3])
    assert one == jet_keys(np.array([0, 2]), [np.array([2.0, 0.0]), *[np.array([0.0, -0.0])] * 3])


def test_jets_without_particles_and_long_jets_have_their_own_sums() -> None:
    long = np.abs(np.random.default_rng(0).normal(size=70_000))
    p4 = [np.concatenate([long, [1.0, 2.0]])] * 4
    found = jet_keys(np.array([0, 0, 70_000, 70_000, 70_001, 70_002]), p4)
    assert found[0] == found[2] == 0
    assert len(np.unique(found)) == 4
    for first, last, key in ((0, 70_000, found[1]), (70_000, 70_001, found[3])):
        part = [c[first:last] for c in p4]
        assert jet_keys(np.array([0, last - first]), part)[0] == key


def test_a_hundred_thousand_jets_have_as_many_keys() -> None:
    assert len(np.unique(keys(make(100_000)))) == 100_000
    grid = np.arange(100_000, dtype=np.float64)  # neighbouring bit patterns, one particle each
    offsets = np.arange(100_001)
    assert len(np.unique(jet_keys(offsets, [grid, grid % 10, grid // 10, grid * 0]))) == 100_000


@pytest.mark.parametrize("purpose", ["split", "draw"])
def test_numbers_from_keys_are_uniform(purpose: str) -> None:
    found = keys(make(100_000))
    numbers = shuffled(found, purpose, seed=3)
    for bits in (numbers >> np.uint64(57), numbers & np.uint64(127)):
        counts = np.bincount(bits.astype(int), minlength=128)
        assert ((counts - 781.25) ** 2 / 781.25).sum() < chi2.ppf(0.9999, 127)


def test_splits_have_their_fractions_and_share_no_jet() -> None:
    found = keys(make(100_000))
    masks = {name: in_split(found, name, FRACTIONS, seed=1) for name in FRACTIONS}
    assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
    for name, fraction in FRACTIONS.items():
        spread = np.sqrt(fraction * (1 - fraction) * 100_000)
        assert abs(masks[name].sum() - fraction * 100_000) < 4 * spread
    other = in_split(found, "test", FRACTIONS, seed=2)
    assert (other & masks["test"]).sum() == pytest.approx(0.04 * 100_000, rel=0.1)


def test_other_fractions_leave_the_other_splits_as_they_are() -> None:
    found = keys(make(5000))
    val, test = (in_split(found, name, FRACTIONS) for name in ("val", "test"))
    without_test = {"train": 0.9, "val": 0.1}
    np.testing.assert_array_equal(in_split(found, "val", without_test), val)
    assert in_split(found, "train", {"train": 1.0}).all()
    assert not in_split(found, "test", without_test).any()
    more = {"train": 0.6, "val": 0.2, "test": 0.2}
    np.testing.assert_array_equal(in_split(found, "test", more), test)
    assert in_split(found, "val", more)[val].all()


def test_a_draw_from_a_split_is_fair_and_does_not_depend_on_the_order() -> None:
    jets = make(20_000)
    found = keys(jets)
    train = found[in_split(found, "train", FRACTIONS)]
    numbers = shuffled(train, "draw")
    chosen = smallest(numbers, 2000, lambda tied: tied.astype(np.uint64))
    assert len(chosen) == 2000
    assert (np.diff(chosen) > 0).all()
    split = shuffled(train[chosen], "split") / 2.0**64  # a draw is no slice of the split
    assert split.mean() == pytest.approx(0.45, abs=0.02)
    order = np.random.default_rng(0).permutation(len(train))
    again = smallest(numbers[order], 2000, lambda tied: tied.astype(np.uint64))
    np.testing.assert_array_equal(np.sort(train[order][again]), np.sort(train[chosen]))


def test_ties_at_the_end_of_a_draw_are_decided_by_other_numbers() -> None:
    numbers = np.array([5, 1, 5, 9, 5], dtype=np.uint64)
    others = np.array([3, 0, 1, 0, 2], dtype=np.uint64)
    assert smallest(numbers, 3, lambda tied: others[tied]).tolist() == [1, 2, 4]
    assert smallest(numbers, 1, lambda tied: others[tied]).tolist() == [1]
    assert smallest(numbers, 7, lambda tied: others[tied]).tolist() == [0, 1, 2, 3, 4]


def test_images_have_keys_of_their_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 3, (3000, 1, 8, 8)).astype(np.uint8)
    found = row_keys(images)
    assert len(np.unique(found)) == 3000
    np.testing.assert_array_equal(row_keys(images.astype(np.float64)), found)
    assert not (row_keys(images[..., ::-1]) == found).any()
    labels = np.arange(3000) % 2
    assert not (labelled(found, labels) == labelled(found, 1 - labels)).any()


def with_columns(jets: FlatJets) -> FlatJets:
    rng = np.random.default_rng(5)
    particle = {"charge": rng.integers(-1, 2, len(jets.p4[0]))}
    return FlatJets(jets.offsets, jets.p4, particle, jets.jet | {"tau": rng.random(len(jets))})


def test_a_fingerprint_is_that_of_the_jets_in_any_order() -> None:
    jets = with_columns(make(300)).to_awkward()
    hashes = fingerprint_hashes(jets, ["charge", "tau", "absent"])
    found = Fingerprint.of(hashes)
    order = np.random.default_rng(1).permutation(300)
    moved = Fingerprint.of(fingerprint_hashes(jets[order], ["tau", "charge"]))
    assert moved.same_jets(found)
    assert moved.order != found.order
    parts = [fingerprint_hashes(part, ["charge", "tau"]) for part in (jets[:100], jets[100:])]
    assert Fingerprint.of(np.concatenate(parts)) == found
    assert not Fingerprint.of(hashes[1:]).same_jets(found)


@pytest.mark.parametrize("change", ["momentum", "charge", "tau", "label", "jet momentum"])
def test_a_fingerprint_changes_with_every_used_number(change: str) -> None:
    jets = with_columns(make(300))
    found = fingerprint_hashes(jets.to_awkward(), ["charge", "tau"])
    if change == "momentum":
        jets.p4[2][7] *= 1.001
    elif change == "charge":
        jets.particle["charge"][7] += 1
    elif change == "jet momentum":
        jets.jet |= {f"jet_p4_{name}": np.ones(300) for name in ("E", "px", "py", "pz")}
    else:
        jets.jet[change][7] = 1 - jets.jet[change][7]
    changed = fingerprint_hashes(jets.to_awkward(), ["charge", "tau"])
    assert (changed != found).sum() == (300 if change == "jet momentum" else 1)


def test_a_column_that_is_not_used_leaves_the_fingerprint() -> None:
    jets = with_columns(make(300)).to_awkward()
    expected = fingerprint_hashes(jets, ["charge"])
    jets["tau"] = jets.tau + 1
    np.testing.assert_array_equal(fingerprint_hashes(jets, ["charge"]), expected)


def test_a_stored_key_is_used() -> None:
    jets = make(5).to_awkward()
    jets["split_key"] = np.arange(5, dtype=np.uint64)
    np.testing.assert_array_equal(keys_of(jets), np.arange(5))
