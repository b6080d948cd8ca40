"""Exported files of lower precision, and the conditions under which files are checked."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

from pcloud.cli.program import main
from pcloud.errors import InputError, UnknownNameError
from pcloud.export import ExportOptions, Parity
from pcloud.export.check import ExportedTagger, check_parity, compare_file
from pcloud.export.export import calibration_feeds
from pcloud.export.precision import loss_of, with_precision
from pcloud.export.record import Session, operators
from pcloud.training.run_sample import load_run_sample


@pytest.mark.parametrize(
    ("precision", "operator", "tolerance"), [("float16", "MatMul", 5e-3), ("int8", "MatMulInteger", 5e-2)]
)  # fmt: skip
def test_linear_maps_have_the_precision_and_momenta_do_not(file, precision, operator, tolerance):
    import onnx

    whole = onnx.load(file)
    model = with_precision(whole, precision)
    assert operator in operators(model)
    assert {node.domain for node in model.graph.node} == {""}
    tagger, session = ExportedTagger(file), Session(model)
    momenta = np.random.default_rng(0).normal(size=(30, 3)) * 3000  # GeV: squares exceed float16
    p4 = np.concatenate([np.linalg.norm(momenta, axis=1, keepdims=True), momenta], axis=1)
    feed = {"p4": p4.astype(np.float32), "charge": np.ones(30, np.float32)}
    found, expected = (s(feed)["probabilities"] for s in (session, tagger.session))
    assert not np.array_equal(found, expected)
    np.testing.assert_allclose(found, expected, atol=tolerance)


def test_the_loss_is_printed_and_stored(run, needs_onnx, tmp_path, capsys):
    path = tmp_path / "small.onnx"
    assert main(["export", str(run.path), str(path), "--int8"]) == 0
    assert "change of AUC" in capsys.readouterr().out
    metadata = ExportedTagger(path).metadata
    assert metadata["precision"] == "int8"
    assert metadata["parity"]["difference"] < 1e-5  # before rounding
    assert {"largest", "change of AUC", "ratio of 1/εB at εS = 0.5"} <= set(metadata["loss"])
    change = metadata["loss"]["change of AUC"]
    assert abs(change["value"]) < 0.02
    assert change["error"] >= 0
    parity, described = compare_file(path, run)
    assert parity.difference < 0.1
    check_parity(parity, described)
    jets = load_run_sample(run, "test")
    assert parity.auc_change == pytest.approx(change["value"], abs=1e-6)
    assert parity.jets == len(jets)


def test_a_loss_is_a_paired_difference():
    rng = np.random.default_rng(0)
    labels = np.arange(4000) % 2
    score = 1 / (1 + np.exp(-rng.normal(labels, 1.0)))
    before = {"probabilities": np.stack([1 - score, score], axis=1)}
    found = loss_of(before, before, labels, ["a", "b"])
    assert found["change of AUC"].value == 0
    assert found["change of AUC"].error == pytest.approx(0, abs=1e-6)
    rounded = np.round(score, 2)
    after = {"probabilities": np.stack([1 - rounded, rounded], axis=1)}
    change = loss_of(after, before, labels, ["a", "b"])["change of AUC"]
    assert 0 < change.error < 1e-3  # one tenth of the error of each AUC
    three = {"probabilities": np.full((6, 3), 1 / 3)}
    several = loss_of(three, three, np.array([0, 1, 2, 0, 1, 2]), ["a", "b", "c"])
    assert {"change of AUC of a", "change of AUC of c"} <= set(several)


def test_files_are_checked_by_the_rules_of_their_export():
    moved = Parity(100, 0, 2e-3, 0.99)  # one jet has another neighbour
    check_parity(moved, {"neighbors": [16, 16], "members": 1})
    check_parity(moved, {"neighbors": [], "members": 1, "precision": "float16"})
    with pytest.raises(InputError, match=r"differs from PyTorch.*not a file of this run") as error:
        check_parity(moved, {"neighbors": [16], "members": 1})  # only in positions
    assert "no file" not in str(error.value)


def test_static_int8_takes_its_scales_from_validation_jets(run, file):
    onnx = pytest.importorskip("onnx")
    read = []

    def noted(jets):
        for feed in jets:
            read.append(feed["p4"])
            yield feed

    feeds = calibration_feeds(run, ExportOptions(int8="static", jets=30))
    model = with_precision(onnx.load(file), "static int8", noted(feeds))
    validation = load_run_sample(run, "val")
    assert [len(p4) for p4 in read] == ak.num(validation.p4)[:30].tolist()
    assert {node.domain for node in model.graph.node} == {""}
    assert "QuantizeLinear" in operators(model)
    assert "DynamicQuantizeLinear" not in operators(model)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    of_weights = {n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    assert sum(values[name].dtype == np.int8 for name in of_weights & set(values)) == 4
    tagger, session = ExportedTagger(file), Session(model)
    test = load_run_sample(run, "test")[:50]
    for jet in tagger.inputs.arrays(test):
        found, expected = (s(jet)["probabilities"] for s in (session, tagger.session))
        np.testing.assert_allclose(found, expected, atol=0.05)


def test_wrong_precisions_are_refused(run, tmp_path):
    with pytest.raises(UnknownNameError, match=r"did you mean .static"):
        ExportOptions(int8="statc")
    assert main(["export", str(run.path), str(tmp_path / "a.onnx"), "--int8", "both"]) == 2
    with pytest.raises(UnknownNameError, match=r"did you mean .float32"):
        ExportOptions(dtype="float12")
    with pytest.raises(InputError, match="either float16 or int8"):
        ExportOptions(dtype="float16", int8=True)
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        run.export(tmp_path / "tagger.pt2", int8=True)
