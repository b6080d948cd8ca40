from __future__ import annotations

import numpy as np
import pytest

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import SelectionWarning, iter_jets, read_jets
from tests.io.columns import NUM_JETS, SCHEMA, WORDS, make_columns, write_columns


@pytest.fixture
def file(tmp_path):
    return write_columns(tmp_path / "a.parquet")


def flavours():
    return make_columns()["flavour"]


def test_values_of_a_column_make_classes_and_the_others_are_left_out(file):
    classes = {"b": 5, "c": 4, "light": [0, 21]}
    message = r"classes of flavour: b 8, c 8, light 16 \(0: 8, 21: 8\); 8 jets .* out \(15: 8\)"
    with pytest.warns(SelectionWarning, match=message):
        jets = read_jets(file, {**SCHEMA, "label": "flavour", "classes": classes})
    expected = {5: 0, 4: 1, 0: 2, 21: 2}
    assert jets.label.to_list() == [expected[f] for f in flavours() if f != 15]
    assert jets.attrs["classes"] == ["b", "c", "light"]


def test_expressions_make_classes(file):
    classes = {"heavy": "abs(flavour) == 5 or flavour == 4", "tau": "flavour == 15"}
    with pytest.warns(SelectionWarning, match=r"heavy 16, tau 8; 16 jets are in no class"):
        jets = read_jets(file, {**SCHEMA, "classes": classes})
    assert jets.label.to_list() == [0 if f in (4, 5) else 1 for f in flavours() if f in (4, 5, 15)]


def test_a_jet_in_two_classes_is_bad(file):
    classes = {"all": "flavour >= 0", "tau": "flavour == 15"}
    with pytest.raises(InputError, match=r"in more than one class \(jets 3, 8, 13, 18, 23"):
        read_jets(file, {**SCHEMA, "classes": classes})


def test_words_make_classes(file):
    jets = read_jets(file, {**SCHEMA, "label": "word", "classes": WORDS})
    assert jets.label.to_list() == [i % 5 for i in range(NUM_JETS)]
    merged = {"heavy": ["bottom", "charm"], "other": ["light", "gluon", "tau"]}
    with pytest.warns(SelectionWarning, match=r"heavy 16 \(bottom: 8, charm: 8\)"):
        jets = read_jets(file, {**SCHEMA, "label": "word", "classes": merged})
    assert jets.label[:5].to_list() == [1, 0, 0, 1, 1]
    with pytest.raises(InputError, match=r"holds words \(bottom, charm, gluon, light, tau\): give"):
        read_jets(file, {**SCHEMA, "label": "word"})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"label": "flavour", "classes": {"b": "flavour == 5"}}, "expression is a class without"),
        ({"label": "word", "classes": {"b": 5}}, "the label word holds words"),
        ({"label": "flavour", "classes": {"b": 5, "c": [4, 5]}}, "value 5 is in the classes b and"),
        ({"classes": {"b": 5}}, "classes with values need the column of the label"),
        ({"label": ["x", "y"], "classes": {"b": 5}}, "need a label of one column"),
        ({"label": "flavour", "classes": {"b": None}}, "not a number or a word"),
    ],
)
def test_wrong_classes_are_refused(file, schema, message):
    with pytest.raises(InputError, match=message):
        read_jets(file, {**SCHEMA, **schema})


def test_files_by_class_need_no_label(tmp_path):
    files = {
        "top": [write_columns(tmp_path / f"top_{i}.parquet") for i in range(2)],
        "qcd": str(write_columns(tmp_path / "qcd.parquet")),
    }
    jets = read_jets(files, SCHEMA, entries=True)
    assert jets.label.to_list() == [0] * 2 * NUM_JETS + [1] * NUM_JETS
    assert jets.attrs["classes"] == ["top", "qcd"]
    assert jets.entry.to_list() == [*range(NUM_JETS)] * 3
    assert jets.attrs["files"] == [*map(str, files["top"]), files["qcd"]]
    assert jets.entry_file.to_list() == [i // NUM_JETS for i in range(3 * NUM_JETS)]
    with pytest.raises(InputError, match="is of the classes top and again"):
        read_jets({**files, "again": files["top"]}, SCHEMA)


def test_selection_weights_targets_events_and_kept_columns(file):
    schema = {
        **SCHEMA,
        "select": "jet_eta > 0 and num(pt) > 1",
        "weight": "weight * 2",
        "targets": {"log_pt": "log(jet_pt)"},
        "event": {"run": "run", "event": "event"},
        "keep": {"pt_of_file": "jet_pt"},
    }
    columns = make_columns()
    counts = np.array([len(p) for p in columns["pt"]])
    chosen = (columns["jet_eta"] > 0) & (counts > 1)
    with pytest.warns(SelectionWarning, match=f"leaves out {(~chosen).sum()} of 40 jets"):
        jets = read_jets(file, schema, columns=[], entries=True)
    assert jets.entry.to_list() == np.flatnonzero(chosen).tolist()
    np.testing.assert_array_equal(jets.weight, 2 * columns["weight"][chosen])
    np.testing.assert_allclose(jets.targets.log_pt, np.log(columns["jet_pt"][chosen]))
    np.testing.assert_array_equal(jets.pt_of_file, columns["jet_pt"][chosen])
    assert jets.event.to_list() == columns["event"][chosen].tolist()
    assert jets.attrs["kept"] == ["run", "event", "pt_of_file"]
    keys: dict[int, int] = {}
    for event, key in zip(jets.event.to_list(), jets.split_key.to_list(), strict=True):
        assert keys.setdefault(event, key) == key  # jets of one event stay together
    assert len(set(keys.values())) == len(keys)


def test_a_weight_that_is_nan_makes_a_jet_bad(tmp_path):
    weight = make_columns()["weight"]
    weight[7] = np.nan
    file = write_columns(tmp_path / "a.parquet", weight=weight)
    with pytest.raises(InputError, match=r"NaN or infinity in weight \(jet 7\)"):
        read_jets(file, {**SCHEMA, "weight": "weight"})


def test_event_numbers_must_be_whole(file):
    with pytest.raises(InputError, match=r"'jet_pt' holds numbers of events and must be whole"):
        read_jets(file, {**SCHEMA, "event": "jet_pt"})


def test_files_to_score_need_no_truth(file):
    schema = {
        **SCHEMA,
        "classes": {"b": "absent == 5", "light": "absent == 0"},
        "weight": "absent_weight",
        "targets": {"mass": "absent_mass"},
    }
    (jets,) = iter_jets(file, schema, needs_truth=False)
    assert jets.fields == ["p4"]
    with pytest.raises(UnknownNameError, match="absent"):
        iter_jets(file, schema)
