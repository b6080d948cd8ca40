from __future__ import annotations

import contextlib

import awkward as ak
import numpy as np
import pytest
import uproot

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import SCHEMAS, JetSchema, count_jets, read_jets, root
from tests.io.conftest import assert_same_jets, make_flat

CLASSES = SCHEMAS["jetclass"].classes


def jetclass_branches(flat, num_classes=10):
    jets = flat.to_awkward()
    names = {"E": "part_energy", "px": "part_px", "py": "part_py", "pz": "part_pz"}
    branches = {column: jets.p4[name] for name, column in names.items()}
    branches["part_charge"] = jets.charge
    branches["part_d0val"] = jets.d0
    label = np.arange(len(flat)) % num_classes
    branches |= {f"label_{c}": label == i for i, c in enumerate(CLASSES[:num_classes])}
    return branches, label


def write(path, trees, kind="mktree"):
    """Write TTrees, whose lists are C arrays with a counter, or RNTuples."""
    with uproot.recreate(path) as file:
        for name, branches in trees.items():
            types = {n: ak.type(column).content for n, column in branches.items()}
            getattr(file, kind)(name, types)
            file[name].extend(branches)
    return path


@pytest.fixture
def flat():
    return make_flat(num_jets=100, extras=True)


def test_the_example_of_jetclass_is_read_as_uproot_reads_it(reference_data):
    path = reference_data / "jetclass2_example_100.root"
    jets = read_jets(path)
    tree = uproot.open(path)["tree"]
    assert count_jets(path) == len(jets) == 100
    columns = {"E": "part_energy", "px": "part_px", "py": "part_py", "pz": "part_pz"}
    for name, column in columns.items():
        assert ak.array_equal(jets.p4[name], tree[column].array())
    extras = {"charge": "part_charge", "is_photon": "part_isPhoton", "dz_err": "part_dzerr"}
    for name, column in extras.items():
        assert ak.array_equal(jets[name], tree[column].array())
    np.testing.assert_array_equal(jets.jet_tau3, tree["jet_tau3"].array(library="np"))
    np.testing.assert_array_equal(jets.label, tree["jet_label"].array(library="np"))
    np.testing.assert_array_equal(ak.num(jets.p4), tree["jet_nparticles"].array(library="np"))
    # The sum of the particles is the jet.
    total = ak.sum(jets.p4, axis=1)
    np.testing.assert_allclose(total.pt, jets.jet_pt, rtol=1e-3)


def test_without_its_labels_jetclass_is_unlabelled(reference_data):
    jets = read_jets(reference_data / "jetclass2_example_100.root", "jetclass")
    assert "label" not in jets.fields


@pytest.mark.parametrize("kind", ["mktree", "mkrntuple"])
def test_jetclass_is_recognised_with_its_labels(tmp_path, flat, kind):
    branches, label = jetclass_branches(flat)
    path = write(tmp_path / "a.root", {"tree": branches}, kind)
    jets = read_jets(path)
    np.testing.assert_array_equal(jets.label, label)
    assert jets.attrs["classes"] == list(CLASSES)
    assert_same_jets(jets[["p4", "charge", "d0"]], flat.to_awkward()[["p4", "charge", "d0"]])
    part = read_jets(path, start=37, stop=61)
    assert ak.array_equal(part.p4.px, jets.p4.px[37:61])


@pytest.mark.parametrize("kind", ["mktree", "mkrntuple"])
def test_several_clusters_are_joined(tmp_path, flat, kind, monkeypatch):
    monkeypatch.setattr(root, "_MIN_RANGE_ROWS", 30)
    branches, _ = jetclass_branches(flat)
    with uproot.recreate(tmp_path / "a.root") as file:
        getattr(file, kind)("tree", {n: ak.type(column).content for n, column in branches.items()})
        for start in range(0, 100, 20):
            file["tree"].extend({n: array[start : start + 20] for n, array in branches.items()})
    names = ["p4", "charge"]
    expected = flat.to_awkward()[names]
    assert_same_jets(read_jets(tmp_path / "a.root")[names], expected)
    assert_same_jets(read_jets(tmp_path / "a.root", start=15, stop=85)[names], expected[15:85])


def test_a_jet_of_two_classes_or_none_is_bad(tmp_path, flat):
    branches, _ = jetclass_branches(flat)
    branches["label_Hbb"][[0, 1]] = True, False
    path = write(tmp_path / "a.root", {"tree": branches})
    with pytest.raises(InputError, match=r"label_QCD/label_Hbb.* no class \(jets 0, 1\)"):
        read_jets(path)


def test_some_of_the_label_branches_are_not_enough(tmp_path, flat):
    branches, _ = jetclass_branches(flat, num_classes=9)
    path = write(tmp_path / "a.root", {"tree": branches})
    with pytest.raises(
        UnknownNameError,
        match=r"no branch named 'label_Tbl' in .*'label_Tbqq'.*those of jetclass.*pcloud inspect",
    ):
        read_jets(path)


def test_an_absent_branch_gets_the_nearest_name(tmp_path, flat):
    branches, _ = jetclass_branches(flat)
    branches["part_enrgy"] = branches.pop("part_energy")
    path = write(tmp_path / "a.root", {"tree": branches})
    for schema in ("jetclass", None):
        with pytest.raises(
            UnknownNameError, match=r"no branch named 'part_energy' in .*a\.root; .*'part_enrgy'"
        ):
            read_jets(path, schema)


def test_trees_are_chosen_by_name(tmp_path, flat):
    branches, _ = jetclass_branches(flat)
    other = {"x": np.arange(3)}
    assert count_jets(write(tmp_path / "a.root", {"tree": branches, "meta": other})) == 100
    assert count_jets(write(tmp_path / "b.root", {"events": branches})) == 100
    two = write(tmp_path / "c.root", {"events": branches, "meta": other})
    with pytest.raises(InputError, match=r"contains the trees events, meta; choose one with tree="):
        read_jets(two)
    values = SCHEMAS["jetclass"].to_dict()
    assert len(read_jets(two, {**values, "tree": "events"})) == 100
    with pytest.raises(UnknownNameError, match=r"no tree named 'event' in .*did you mean 'events'"):
        read_jets(two, {**values, "tree": "event"})
    with uproot.recreate(tmp_path / "d.root") as file:
        file["h"] = np.histogram([1.0, 2.0])
    with pytest.raises(InputError, match="contains no tree"):
        read_jets(tmp_path / "d.root")


def test_branches_of_different_lengths_are_refused(tmp_path, flat):
    branches, _ = jetclass_branches(flat)
    counts = flat.counts.copy()
    counts[[7, 8]] += 1, -1
    branches["part_charge"] = ak.unflatten(ak.flatten(branches["part_charge"]), counts)
    path = write(tmp_path / "a.root", {"tree": branches})
    with pytest.raises(
        InputError,
        match=rf"'part_charge' has {counts[7]} particles in jet 7, but 'part_energy' has {counts[7] - 1}",
    ):
        read_jets(path)


def test_ones_own_branches_are_read_by_a_schema(tmp_path, flat):
    p4 = flat.to_awkward().p4
    branches = {"pf_pt": 1000 * p4.pt, "pf_eta": p4.eta, "pf_phi": p4.phi, "pf_m": 1000 * p4.mass}
    branches |= {"fj_pt": 1000 * flat.jet["jet_sdmass"], "fj_run": flat.jet["run"]}
    path = write(tmp_path / "a.root", {"tree": branches})
    schema = JetSchema(
        {"pt": "pf_pt", "eta": "pf_eta", "phi": "pf_phi", "mass": "pf_m"},
        jet={"jet_pt": "fj_pt", "run": "fj_run"},
        unit="MeV",
    )
    jets = read_jets(path, schema)
    for name in ("E", "px", "py", "pz"):
        ours, theirs = ak.flatten(jets.p4[name]), ak.flatten(p4[name])
        np.testing.assert_allclose(ours, theirs, rtol=3e-6, atol=1e-4)
    np.testing.assert_allclose(jets.jet_pt, flat.jet["jet_sdmass"], rtol=1e-6)
    np.testing.assert_array_equal(jets.run, flat.jet["run"])


def test_a_branch_of_lists_is_no_label(tmp_path, flat):
    branches, _ = jetclass_branches(flat)
    path = write(tmp_path / "a.root", {"tree": branches})
    schema = JetSchema(SCHEMAS["jetclass"].p4, label="part_charge")
    with pytest.raises(InputError, match=r"'part_charge' has shape \(100, any\), expected one num"):
        read_jets(path, schema)


def test_a_branch_that_uproot_cannot_interpret_hides_no_other(tmp_path, flat):
    branches, _ = jetclass_branches(flat)
    branches["odd"] = np.arange(len(flat), dtype=np.int16)
    path = tmp_path / "odd.root"
    with uproot.recreate(path, compression=None) as file:
        file.mktree("tree", {n: ak.type(column).content for n, column in branches.items()})
        file["tree"].extend(branches)
    path.write_bytes(path.read_bytes().replace(b"TLeafS", b"TLeafQ"))  # a leaf of unknown type
    assert len(read_jets(path)) == len(flat)
    schema = JetSchema({"px": "part_px", "py": "part_py", "pz": "part_pz"}, label="odd")
    with pytest.raises(InputError, match="branch 'odd' cannot be read: uproot does not know"):
        read_jets(path, schema)


def test_a_branch_of_text_is_said_to_be_no_number(tmp_path, flat):
    branches, _ = jetclass_branches(flat)
    branches["names"] = ak.Array(["a"] * len(flat))
    path = write(tmp_path / "a.root", {"tree": branches})
    schema = JetSchema({"px": "part_px", "py": "part_py", "pz": "part_pz"}, label="names")
    with pytest.raises(InputError, match=r"'names' cannot be read: its type, .*, is not a number"):
        read_jets(path, schema)


def test_a_false_number_of_entries_is_refused(tmp_path, flat):
    branches, _ = jetclass_branches(flat)
    path = write(tmp_path / "a.root", {"tree": branches})
    data = path.read_bytes()
    with uproot.open(path) as file:
        position = file.key("tree").data_cursor.index
    hundred = (100).to_bytes(8, "big")
    places = [i for i in range(position, len(data)) if data[i : i + 8] == hundred]
    assert places
    for place in places:
        path.write_bytes(data[:place] + (10**9).to_bytes(8, "big") + data[place + 8 :])
        with contextlib.suppress(InputError):  # the numbers of entries of other branches
            assert len(read_jets(path)) == 100


def test_a_false_size_of_a_basket_takes_no_memory(tmp_path, flat):
    branches, _ = jetclass_branches(flat)
    path = write(tmp_path / "a.root", {"tree": branches})
    with uproot.open(path) as file:
        position = int(file["tree"]["part_energy"].member("fBasketSeek")[0])
    data = path.read_bytes()
    size = position + 6  # after the numbers of bytes and the version
    path.write_bytes(data[:size] + (2**30).to_bytes(4, "big") + data[size + 4 :])
    with pytest.raises(InputError, match=r"a\.root: 1,073,741,824 bytes are said to be compressed"):
        read_jets(path)
