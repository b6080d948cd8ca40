from __future__ import annotations

import json
import pickle

import pytest

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import SCHEMAS, JetSchema
from pcloud.io.known_schemas import as_schema
from pcloud.io.references import Column

CARTESIAN = {"E": "e", "px": "x", "py": "y", "pz": "z"}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_survives_a_dict_and_json(name):
    schema = SCHEMAS[name]
    assert JetSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
    assert pickle.loads(pickle.dumps(schema)) == schema
    assert as_schema(schema.to_dict()) == as_schema(name) == schema


def test_equal_schemas_have_equal_hashes():
    one, other = JetSchema(CARTESIAN), JetSchema(dict(CARTESIAN))
    assert hash(one) == hash(other)
    assert hash(one) != hash(JetSchema(CARTESIAN, unit="MeV"))


def test_a_schema_does_not_follow_its_arguments():
    p4 = dict(CARTESIAN)
    schema = JetSchema(p4)
    p4["E"] = "other"
    assert schema.p4["E"] == "e"


@pytest.mark.parametrize(
    "quantities",
    [
        ("px", "py", "pz"),
        ("px", "py", "pz", "mass"),
        ("pt", "eta", "phi"),
        ("pt", "eta", "phi", "E"),
        ("pt", "rapidity", "phi", "mass"),
        ("pt", "rapidity", "phi", "E"),
    ],
)
def test_these_quantities_make_a_momentum(quantities):
    assert JetSchema({name: name for name in quantities}).p4.keys() == set(quantities)


@pytest.mark.parametrize(
    "quantities",
    [(), ("E",), ("px", "py"), ("pt", "eta", "rapidity", "phi"), ("px", "py", "pz", "E", "mass")],
)
def test_these_quantities_do_not_make_a_momentum(quantities):
    with pytest.raises(InputError, match=r"p4 needs px, py, pz or pt, eta, phi"):
        JetSchema({name: name for name in quantities})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p4": {**CARTESIAN, "rapidty": "r"}}, "no momentum quantity .*did you mean 'rapidity'"),
        ({"unit": "gev"}, "no unit named 'gev'; did you mean 'GeV'"),
        ({"optional": ("lable",)}, "no optional column .*did you mean 'label'"),
        ({"particle": {"p4": "c"}}, "'p4' of an extra column is reserved"),
        ({"particle": {"q": "c"}, "jet": {"q": "c"}}, "'q' of an extra column"),
        ({"label": ("is_a", "is_b"), "classes": ("a",)}, "2 one-hot label columns but 1 classes"),
        ({"classes": ("a", "a")}, "class names must differ"),
        ({"mask": "m", "counts": "n"}, "one of mask, offsets and counts"),
        ({"particle": {"charge": 3}}, "particle must map names to columns"),
        ({"particle": ["charge"]}, "particle must map names to columns"),
        ({"classes": "qcd"}, "classes must be a sequence of names"),
    ],
)
def test_a_wrong_schema_is_refused_when_it_is_made(change, message):
    with pytest.raises(InputError, match=message):
        JetSchema(**{"p4": CARTESIAN, **change})


def test_an_unknown_field_or_name_gets_the_nearest():
    with pytest.raises(UnknownNameError, match="no schema field named 'lable'; did you mean 'lab"):
        JetSchema.from_dict({"p4": CARTESIAN, "lable": "y"})
    with pytest.raises(InputError, match="needs 'p4'"):
        JetSchema.from_dict({"label": "y"})
    with pytest.raises(
        UnknownNameError, match="no schema named 'lanscape'; did you mean 'landscape"
    ):
        as_schema("lanscape")
    with pytest.raises(InputError, match="schema must be"):
        as_schema(3)


def test_classes_are_named_after_one_hot_columns():
    assert JetSchema(CARTESIAN, label=("label_QCD", "label_Hbb")).classes == ("QCD", "Hbb")
    assert JetSchema(CARTESIAN, label=("is_b_jet", "is_b_tau")).classes == ("jet", "tau")
    assert JetSchema(CARTESIAN, label=("qcd", "top")).classes == ("qcd", "top")


def test_column_references_are_taken_apart():
    assert Column.parse("X[12]") == Column("X", 12)
    assert Column.parse("tracks/pt") == Column("tracks/pt")
    assert Column.parse("PX_{i}").wide
    known = ["E_0", "E_1", "E_3", "PX_0"]
    assert Column.parse("E_{i}").slots(known) == ("E_0", "E_1")
    assert Column.parse("PY_{i}").slots(known) == ()
