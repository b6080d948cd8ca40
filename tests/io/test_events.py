"""Files whose rows are events: the jets of all events, whatever the storage."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import uproot

from pcloud.batch import JetDataset
from pcloud.errors import InputError, UnknownNameError
from pcloud.io import JetSchema, count_jets, iter_jets, parquet, read_jets, root
from pcloud.io.check import BadJetWarning
from pcloud.io.events import jets_of
from pcloud.io.read import open_table
from pcloud.yaml_files import read_yaml
from tests.conftest import REPOSITORY
from tests.io.conftest import assert_same_jets, make_flat

NESTED = JetSchema(
    {"E": "jet_const_E", "px": "jet_const_px", "py": "jet_const_py", "pz": "jet_const_pz"},
    particle={"charge": "jet_const_charge"},
    jet={"jet_sdmass": "jet_sdmass", "event": "event", "entry": "entry", "index": "index"},
    label="jet_isTop",
    classes=("qcd", "top"),
)
LINKED = JetSchema(
    {"E": "PFCands_E", "px": "PFCands_px", "py": "PFCands_py", "pz": "PFCands_pz"},
    particle={"charge": "PFCands_charge", "ratio": "FatJetPFCands_ratio"},
    jet={"jet_sdmass": "FatJet_sdmass", "event": "event", "entry": "entry", "index": "index"},
    label="FatJet_isTop",
    classes=("qcd", "top"),
    index={"jet": "FatJetPFCands_jetIdx", "particle": "FatJetPFCands_pFCandsIdx"},
)
P4 = ("E", "px", "py", "pz")


@pytest.fixture
def sample():
    """Jets, and the number of jets of each event, among which are events without jets."""
    jets = make_flat(num_jets=60, extras=True).to_awkward(("qcd", "top"))
    counts = np.random.default_rng(2).integers(0, 4, 60)
    counts = counts[: np.searchsorted(np.cumsum(counts), 60)]
    counts = np.concatenate([[0, 0], counts, [60 - counts.sum(), 0]])
    return jets, counts


def expected_jets(jets, counts):
    events = np.repeat(np.arange(len(counts)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    columns = {name: jets[name] for name in ("p4", "charge", "jet_sdmass", "label")}
    columns["event"] = 1000 + events.astype(np.uint64)
    columns |= {"entry": events, "index": np.arange(len(events)) - first}
    return ak.zip(columns, depth_limit=1)


def nested_columns(jets, counts):
    columns = {f"jet_const_{name}": jets.p4[name] for name in P4}
    columns |= {"jet_const_charge": jets.charge, "jet_sdmass": jets.jet_sdmass}
    columns["jet_isTop"] = ak.values_astype(jets.label, np.int32)
    nested = {name: ak.unflatten(column, counts) for name, column in columns.items()}
    return nested | {"event": 1000 + np.arange(len(counts), dtype=np.uint64)}


def linked_columns(jets, counts):
    """Candidates of each event in any order, three of no jet, and links that mix the jets."""
    rng = np.random.default_rng(3)
    names = [*P4, "charge"]
    candidates = {name: [] for name in names}
    jet_numbers, places, ratios, sizes = [], [], [], []
    for event in ak.unflatten(jets, counts):
        number = int(ak.sum(ak.num(event.charge)))
        place = rng.permutation(number + 3)[:number]
        for name in names:
            values = ak.to_numpy(ak.flatten(event.p4[name] if name in P4 else event[name], axis=1))
            filled = np.ones(number + 3, values.dtype)
            filled[place] = values
            candidates[name].append(filled)
        jet = np.repeat(np.arange(len(event)), ak.to_numpy(ak.num(event.charge)))
        mixed = np.empty(number, int)  # of each jet the first particle first
        mixed[np.argsort(rng.permutation(jet), kind="stable")] = np.arange(number)
        jet_numbers.append(np.append(jet[mixed], -1))
        places.append(np.append(place[mixed], 0))
        ratios.append(np.append(mixed, -1.0))
        sizes.append(number)
    links = {"jetIdx": jet_numbers, "pFCandsIdx": places, "ratio": ratios}
    found = {f"FatJetPFCands_{n}": lists(v, np.array(sizes) + 1) for n, v in links.items()}
    found |= {f"PFCands_{n}": lists(v, np.array(sizes) + 3) for n, v in candidates.items()}
    found["FatJet_sdmass"] = ak.unflatten(jets.jet_sdmass, counts)
    found["FatJet_isTop"] = ak.unflatten(ak.values_astype(jets.label, np.int32), counts)
    found["Muon_pt"] = ak.Array([[1.0, 2.0, 3.0]] * len(counts))
    return found | {"event": 1000 + np.arange(len(counts), dtype=np.uint64)}


def lists(parts, sizes):
    return ak.unflatten(np.concatenate(parts), sizes)


def write(path, columns, kind):
    """Write a TTree or RNTuple in three parts, or Parquet in row groups of 7 events."""
    if kind == "parquet":
        arrays = {n: ak.to_arrow(ak.Array(c), extensionarray=False) for n, c in columns.items()}
        pq.write_table(pa.table(arrays), path, row_group_size=7)
        return path
    with uproot.recreate(path) as file:
        arrays = {name: ak.Array(column) for name, column in columns.items()}
        types = {name: ak.type(array).content for name, array in arrays.items()}
        getattr(file, kind)("Events", types)
        for start, stop in ((0, 9), (9, 20), (20, None)):
            file["Events"].extend({name: array[start:stop] for name, array in arrays.items()})
    return path


@pytest.mark.parametrize("kind", ["mkrntuple", "parquet"])
def test_lists_of_lists_are_jets(tmp_path, sample, kind, monkeypatch):
    monkeypatch.setattr(root, "_MIN_RANGE_ROWS", 5)
    path = write(tmp_path / "events", nested_columns(*sample), kind)
    expected = expected_jets(*sample)
    assert count_jets(path, NESTED) == 60
    assert_same_jets(read_jets(path, NESTED), expected)
    for start, stop in ((0, 1), (7, 8), (13, 51), (59, 60)):
        part = read_jets(path, NESTED, start=start, stop=stop)
        assert_same_jets(part, expected[start:stop])
    chunks = ak.concatenate(list(iter_jets(path, NESTED, chunk_size=11)))
    assert_same_jets(chunks, expected)


def test_large_row_groups_of_events_are_read_in_batches(tmp_path, sample, monkeypatch):
    monkeypatch.setattr(parquet, "_MAX_GROUP_BYTES", 1)
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 4)
    path = write(tmp_path / "events", nested_columns(*sample), "parquet")
    assert_same_jets(read_jets(path, NESTED, start=5), expected_jets(*sample)[5:])


@pytest.mark.parametrize("kind", ["mktree", "mkrntuple", "parquet"])
def test_particles_that_are_numbered_are_those_of_their_jets(tmp_path, sample, kind, monkeypatch):
    monkeypatch.setattr(root, "_MIN_RANGE_ROWS", 5)
    path = write(tmp_path / "nano", linked_columns(*sample), kind)
    expected = expected_jets(*sample)
    jets = read_jets(path, LINKED)
    assert_same_jets(jets[expected.fields], expected)
    is_first = jets["index"] == 0  # whose particles are numbered 0, 1, 2, ...
    assert ak.all(jets.ratio[is_first] == ak.local_index(jets.ratio)[is_first])
    part = read_jets(path, LINKED, start=13, stop=51)
    assert_same_jets(part, jets[13:51])


def test_links_in_any_order_keep_that_order_in_each_jet(tmp_path):
    columns = {
        "PFCands_px": [[10.0, 11.0, 12.0, 13.0, 14.0]],
        "FatJetPFCands_jetIdx": [[2, 0, 2, 0, -1]],
        "FatJetPFCands_pFCandsIdx": [[4, 3, 0, 1, 2]],
        "FatJetPFCands_weight": [[0.4, 0.3, 0.2, 0.1, 0.0]],
        "FatJet_pt": [[1.0, 2.0, 3.0]],
    }
    path = write(tmp_path / "nano", columns, "parquet")
    px = dict.fromkeys(("px", "py", "pz"), "PFCands_px")
    index = {"jet": "FatJetPFCands_jetIdx", "particle": "FatJetPFCands_pFCandsIdx"}
    schema = JetSchema(px, {"weight": "FatJetPFCands_weight"}, {"jet_pt": "FatJet_pt"}, index=index)
    with pytest.warns(match="dropped 1 of 3 jets: no particles"):
        jets = read_jets(path, schema, on_bad_jet="drop")
    assert jets.p4.px.to_list() == [[13.0, 11.0], [14.0, 10.0]]
    assert jets.weight.to_list() == [[0.3, 0.1], [0.4, 0.2]]
    assert jets.jet_pt.to_list() == [1.0, 3.0]
    # Without a column per jet, the largest index is that of the last jet.
    assert count_jets(path, JetSchema(px, index=index)) == 3


def test_a_real_file_of_vectors_of_vectors_is_read_as_uproot_reads_it(reference_data):
    path = reference_data / "uproot-vectorVectorDouble.root"
    lists = uproot.open(path)["t"]["x"].array()
    columns = {"entry": "entry", "index": "index"}
    schema = JetSchema(dict.fromkeys(("px", "py", "pz"), "x"), jet=columns)
    assert count_jets(path, schema) == ak.sum(ak.num(lists)) == 9
    with pytest.warns(match=r"dropped 3 of 9 jets: no particles \(3 jets\)"):
        jets = read_jets(path, schema, on_bad_jet="drop")
    flat = ak.flatten(lists)
    assert jets.p4.px.to_list() == flat[ak.num(flat) > 0].to_list()
    assert jets.entry.to_list() == [2, 2, 3, 4, 4, 4]
    assert jets["index"].to_list() == [0, 2, 0, 0, 1, 2]


def test_an_event_of_nanoaod_is_one_cloud_of_its_jets(reference_data):
    path = reference_data / "nanoAOD_2015_CMS_Open_Data_ttbar.root"
    schema = JetSchema(
        {"pt": "Jet_pt", "eta": "Jet_eta", "phi": "Jet_phi", "mass": "Jet_mass"},
        particle={"btag": "Jet_btagCSVV2"},
        jet={"event": "event", "met": "MET_pt"},
        tree="Events",
    )
    with pytest.warns(match=r"dropped 14 of 200 jets: no particles"):
        events = read_jets(path, schema, on_bad_jet="drop")
    tree = uproot.open(path)["Events"].arrays(["Jet_pt", "Jet_btagCSVV2", "event", "MET_pt"])
    tree = tree[ak.num(tree.Jet_pt) > 0]
    np.testing.assert_allclose(ak.flatten(events.p4.pt), ak.flatten(tree.Jet_pt), rtol=1e-5)
    assert ak.array_equal(events.btag, tree.Jet_btagCSVV2)
    assert ak.array_equal(events.event, tree.event)
    assert ak.array_equal(events.met, tree.MET_pt)


def test_a_column_of_another_collection_is_no_column_of_the_jets(tmp_path, sample):
    columns = linked_columns(*sample)
    path = write(tmp_path / "nano", columns, "parquet")
    schema = JetSchema(
        LINKED.p4, jet={"sdmass": "FatJet_sdmass", "muon": "Muon_pt"}, index=LINKED.index
    )
    with pytest.raises(InputError, match="'Muon_pt' has 3 entries in event 3, but 'FatJet_sdmass'"):
        read_jets(path, schema)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("jetIdx", 7, r"'FatJetPFCands_jetIdx' is 7 in event 2, whose largest index is "),
        ("jetIdx", -2, r"'FatJetPFCands_jetIdx' is -2 in event 2, "),
        ("pFCandsIdx", 10**6, r"'FatJetPFCands_pFCandsIdx' is 1000000 in event 2, whose"),
        ("pFCandsIdx", -5, r"'FatJetPFCands_pFCandsIdx' is -5 in event 2, whose"),
        ("jetIdx", 0.5, r"'FatJetPFCands_jetIdx' must be whole numbers, got float64"),
    ],
)
def test_an_index_of_nothing_is_an_error(tmp_path, sample, column, value, message):
    columns = linked_columns(*sample)
    changed = columns[f"FatJetPFCands_{column}"].to_list()
    event = next(i for i, count in enumerate(sample[1]) if count)
    assert event == 2
    changed[event][0] = value
    path = write(
        tmp_path / "nano", columns | {f"FatJetPFCands_{column}": ak.Array(changed)}, "parquet"
    )
    with pytest.raises(InputError, match=message):
        read_jets(path, LINKED)


def test_a_huge_index_does_not_make_as_many_jets(tmp_path):
    columns = {"C_px": [[1.0]], "L_jetIdx": [[2**31 - 1]], "L_cIdx": [[0]]}
    path = write(tmp_path / "nano", columns, "parquet")
    index = {"jet": "L_jetIdx", "particle": "L_cIdx"}
    with pytest.raises(InputError, match="'L_jetIdx' is 2147483647 in event 0"):
        count_jets(path, JetSchema(dict.fromkeys(("px", "py", "pz"), "C_px"), index=index))


def test_lists_of_other_lengths_are_an_error(tmp_path, sample):
    columns = nested_columns(*sample)
    shorter = columns["jet_const_charge"].to_list()
    event = next(i for i, count in enumerate(sample[1]) if count)
    shorter[event].pop()
    path = write(tmp_path / "events", columns | {"jet_const_charge": ak.Array(shorter)}, "parquet")
    with pytest.raises(
        InputError, match=r"'jet_const_charge' has \d entries in event 2, but 'jet_"
    ):
        read_jets(path, NESTED)
    shorter = columns["jet_const_charge"].to_list()
    shorter[event][0].pop()
    path = write(tmp_path / "events", columns | {"jet_const_charge": ak.Array(shorter)}, "parquet")
    with pytest.raises(InputError, match=r"'jet_const_charge' has \d+ particles in jet 0"):
        read_jets(path, NESTED)


def test_an_entry_is_the_row_of_the_event(tmp_path, sample):
    path = write(tmp_path / "events", nested_columns(*sample), "parquet")
    table = jets_of(open_table(path, None), NESTED)
    expected = expected_jets(*sample).entry
    np.testing.assert_array_equal(table.entries(0, 60), expected)
    np.testing.assert_array_equal(table.entries(13, 20), expected[13:20])
    table.close()


def test_only_the_needed_columns_are_read(tmp_path, sample, monkeypatch):
    columns = nested_columns(*sample)
    path = write(tmp_path / "events", columns, "parquet")
    read = set()
    original = parquet.ParquetTable.read_columns

    def spy(self, names, start, stop):
        read.update(names)
        return original(self, names, start, stop)

    monkeypatch.setattr(parquet.ParquetTable, "read_columns", spy)
    read_jets(path, NESTED, columns=["index"])
    # The jets are counted by the first column with a number per jet.
    assert read == {*(f"jet_const_{name}" for name in P4), "jet_isTop", "jet_sdmass"}


def test_an_index_names_two_columns(tmp_path, sample):
    with pytest.raises(InputError, match="index needs jet and particle, got jet"):
        JetSchema(LINKED.p4, index={"jet": "a"})
    with pytest.raises(InputError, match="index must map jet and particle to columns"):
        JetSchema(LINKED.p4, index="a")
    path = write(tmp_path / "nano", linked_columns(*sample), "parquet")
    schema = JetSchema(LINKED.p4, index={"jet": "FatJetPFCands_jet", "particle": "PFCands_px"})
    with pytest.raises(UnknownNameError, match="did you mean 'FatJetPFCands_jetIdx'"):
        read_jets(path, schema)
    schema = JetSchema(LINKED.p4, index={"jet": "event", "particle": "PFCands_px"})
    with pytest.raises(InputError, match="'event' is no index of particles"):
        read_jets(path, schema)
    assert JetSchema.from_dict(LINKED.to_dict()) == LINKED


def test_an_event_of_jets_and_leptons_is_one_cloud(reference_data):
    schema = read_yaml(REPOSITORY / "examples" / "schemas" / "nanoaod_leptons.yaml")
    path = reference_data / "nanoAOD_2015_CMS_Open_Data_ttbar.root"
    with pytest.warns(BadJetWarning, match="no particles"):
        events = read_jets(path, schema, on_bad_jet="drop")
    data = JetDataset(
        events, "kin", collections={"muons": ["default", "charge"], "electrons": None}
    )
    assert data.feature_set.widths == (7, 8, 7)
    counts = [int(ak.sum(ak.num(events[name]))) for name in ("p4", "muons", "electrons")]
    assert torch.bincount(data.collection).tolist() == counts
    assert data.x.isfinite().all()
