"""Exported files against the runs that they were made from."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import pcloud
from pcloud.cli.program import main
from pcloud.errors import InputError, MissingExtraError, UnknownNameError
from pcloud.export import ExportOptions, packages
from pcloud.export.check import ExportedTagger, LongJetWarning
from pcloud.export.export import export_run, sample_of_test
from pcloud.export.inputs import CloudInputs
from pcloud.export.parity import Parity, hardest
from pcloud.export.record import Session, operators, record
from pcloud.export.source import CloudSource
from pcloud.kinematics import asinh, atan2
from pcloud.models import build_model
from pcloud.nn.numerics.derivatives import higher_derivatives
from pcloud.nn.recurrent import last_padded_state
from pcloud.training.run_sample import load_run_sample

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_file_of_one_jet_gives_the_probabilities_of_the_run(run, file):
    jets = load_run_sample(run, "test")
    found = ExportedTagger(file)(jets)
    expected = run.predict(jets, calibrated=True)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)


def test_the_order_of_the_particles_has_no_effect(run, file):
    tagger = ExportedTagger(file)
    arrays = tagger.inputs.arrays(load_run_sample(run, "test")[:30])
    for jet in arrays:
        order = np.random.default_rng(0).permutation(len(jet["p4"]))
        shuffled = {name: values[order] for name, values in jet.items()}
        first, second = (tagger.session(feed)["probabilities"] for feed in (jet, shuffled))
        assert np.array_equal(first, second)


def test_a_jet_without_particles_has_the_score_of_the_network_for_it(run, file):
    tagger = ExportedTagger(file)
    empty = {"p4": np.zeros((0, 4), np.float32), "charge": np.zeros(0, np.float32)}
    layout = pcloud.nn.RaggedLayout.from_ptr(torch.tensor([0, 0]))
    with torch.no_grad():
        logits = run.network()(torch.zeros(0, 8), torch.zeros(0, 4), layout.batch, layout)
    expected = run.calibration().map(logits.double().softmax(-1).numpy())[0]
    np.testing.assert_allclose(tagger.session(empty)["probabilities"], expected, atol=1e-6)


def test_padding_may_stand_anywhere_and_long_jets_lose_their_softest_particles(run, padded_file):
    tagger = ExportedTagger(padded_file)
    jets = load_run_sample(run, "test")[:50]
    arrays = tagger.inputs.arrays(jets)
    with pytest.warns(LongJetWarning, match="more than 6 particles: the softest were removed"):
        found = tagger(jets)["probabilities"]
    kept = [hardest(jet, tagger.inputs, 6) for jet in arrays]
    expected = run.predict(tagger.inputs.jets(kept))
    np.testing.assert_allclose(found, expected, atol=1e-6)

    batch = tagger.inputs.padded(arrays)
    order = np.random.default_rng(0).permutation(batch["mask"].shape[1])
    moved = {name: values[:, order] for name, values in batch.items()}
    moved["p4"][~moved["mask"]] = 1e6  # what stands in padding is not read
    assert np.array_equal(tagger.session(moved)["probabilities"], found)


def test_a_file_describes_itself(run, file, padded_file):
    found = ExportedTagger(file).metadata
    assert found["classes"] == ["a", "b"]
    assert found["version"] == pcloud.__version__
    assert [entry["name"] for entry in found["inputs"]] == ["p4", "charge"]
    p4 = found["inputs"][0]
    assert (p4["unit"], p4["components"]) == ("GeV", ["E", "px", "py", "pz"])
    assert p4["shape"] == ["num_particles", 4]
    assert p4["low"] < 0 < p4["high"]
    auc = run.evaluate(num_bootstrap=0)["auc"]
    assert found["metrics"]["auc"]["value"] == pytest.approx(auc.value)
    assert found["metrics"]["auc"]["low"] < auc.value < found["metrics"]["auc"]["high"]
    assert "decreasing pT" in found["particle_order"]
    assert found["parity"]["difference"] < 1e-6
    assert found["parity"]["synthetic"] == 7
    other = ExportedTagger(padded_file).metadata
    assert other["weights"] == found["weights"]
    assert len(found["weights"]) == 64
    names = ["p4", "charge", "mask"]
    assert [entry["name"] for entry in other["inputs"]] == names
    assert other["inputs"][0]["shape"] == ["num_jets", "num_particles", 4]


def test_a_file_is_small_and_has_standard_operators_only(file):
    import onnx

    model = onnx.load(file)
    assert {opset.domain for opset in model.opset_import} <= {"", "pkg.torch"}
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    assert file.stat().st_size < 50_000
    onnx.checker.check_model(model)


@pytest.mark.slow
def test_a_neighbour_search_is_checked_with_the_same_neighbours(knn_run, needs_onnx, tmp_path):
    written = knn_run.export(tmp_path / "tagger.onnx", padded=True)
    assert written.parity.with_neighbors < 1e-5
    assert written.parity.share >= 0.98
    assert "largest difference" in str(written)
    assert written.metadata["outputs"] == ["probabilities"]
    jets = load_run_sample(knn_run, "test")
    tagger = ExportedTagger(written.path)
    assert tagger.session.outputs == ["probabilities"]
    differences = np.abs(tagger(jets)["probabilities"] - knn_run.predict(jets)).max(1)
    assert (differences < 1e-4).mean() >= 0.98


def test_the_graph_of_targets_gives_their_columns(target_run):
    source, graph = graph_of(target_run)
    assert source.outputs.names()[:3] == ["probabilities", "pred_pt", "pred_pt_sigma"]
    check_graph(source, graph)


@pytest.mark.slow
def test_targets_and_columns_of_jets_are_outputs_and_inputs(target_run, needs_onnx, tmp_path):
    written = target_run.export(tmp_path / "tagger.onnx")
    assert written.metadata["outputs"][:3] == ["probabilities", "pred_pt", "pred_pt_sigma"]
    inputs = {entry["name"]: entry["shape"] for entry in written.metadata["inputs"]}
    assert inputs == {"p4": ["num_particles", 4], "jet_p4": [4], "quality": [1]}
    jets = load_run_sample(target_run, "test")
    out = tmp_path / "scores.parquet"
    pcloud.write_jets(jets, tmp_path / "jets.parquet")
    target_run.predict_file(str(tmp_path / "jets.parquet"), out)
    columns = pq.read_table(out)
    found = ExportedTagger(written.path)(jets)
    for name in written.metadata["outputs"][1:]:
        np.testing.assert_allclose(found[name], columns[name].to_numpy(), rtol=1e-5)


def graph_of(run, **options):
    source = CloudSource(run, ExportOptions(**options), sample_of_test(run, 40))
    return source, source.graph()


MODELS = {
    "particlenet": {"k": 3, "widths": ((8,), (8,)), "head_widths": (8,)},
    "particlenet_collections": {"k": 3, "widths": ((8,), (8,)), "head_widths": (8,)},
    "dgcnn": {"k": 4, "widths": (8, 8), "embed_width": 16, "head_widths": (8,)},
    "lorentznet": {"num_layers": 2, "width": 8},
    "pelican": {"num_layers": 2, "width": 16, "message_width": 8},
    "efn": {"phi_widths": (8, 8), "head_widths": (8,)},
    "part": {"embed_widths": (16,), "pair_widths": (8,), "num_heads": 4, "num_layers": 2},
    "transformer": {"embed_widths": (16,), "num_heads": 4, "num_layers": 2},
    "pcnn": {"width": 8, "stage_widths": ((8,), (8, 8)), "head_widths": (8,)},
    "lgatr_slim": {"num_layers": 1, "vector_width": 8, "scalar_width": 8, "num_heads": 2},
    "lgatr": {"num_layers": 1, "multivector_width": 4, "scalar_width": 8, "num_heads": 2},
    "lstm": {"width": 8, "num_layers": 2},
    "deepjet": {"widths": [[8, 4]], "lstm_widths": [8], "head_widths": [8, 8]},
}


@pytest.mark.rounding
@pytest.mark.parametrize("name", MODELS)
def test_the_graph_of_every_network_gives_its_scores(run, name, monkeypatch):
    """In PyTorch: the graph computes padded jets by plain formulas, the run ragged ones."""
    torch.manual_seed(0)
    network = build_model(name, 8, 2, **MODELS[name]).eval()
    tagger = run.tagger()
    monkeypatch.setitem(vars(tagger), "model", network)
    check_graph(*graph_of(run, padded=True))


@pytest.mark.parametrize("which", ["knn_run", "target_run"])
def test_ragged_batches_have_the_scores_of_the_run(which, request):
    """Also of jets without particles, which end where they begin."""
    source, graph = graph_of(request.getfixturevalue(which), ragged=True)
    assert graph.names[-1] == "offsets"
    check_graph(source, graph)
    batch = source.inputs.ragged(source.arrays[:4])
    expected = graph.predict({name: torch.from_numpy(batch[name]) for name in graph.names})
    with higher_derivatives():
        for i in range(4):
            alone = {n: torch.from_numpy(v) for n, v in graph.of_jet(batch, i).items()}
            found = graph.predict(alone)["probabilities"]
            torch.testing.assert_close(found[0], expected["probabilities"][i])


@pytest.mark.once
@pytest.mark.slow
def test_a_neighbour_search_runs_in_ragged_batches(knn_run, needs_onnx, tmp_path):
    written = knn_run.export(tmp_path / "tagger.onnx", ragged=True, jets=50)
    assert written.parity.with_neighbors < 1e-5
    jets = load_run_sample(knn_run, "test")
    found = ExportedTagger(written.path)(jets)["probabilities"]
    differences = np.abs(found - knn_run.predict(jets)).max(1)
    assert (differences < 1e-4).mean() >= 0.98


@pytest.mark.parametrize("name", ["particlenet", "part"])
def test_padding_takes_no_time_of_networks_with_edges_or_pairs(run, name, monkeypatch):
    network = build_model(name, 8, 2, **MODELS[name]).eval()
    monkeypatch.setitem(vars(run.tagger()), "model", network)
    source, graph = graph_of(run, padded=True)
    feed = source.inputs.padded(source.arrays[:9])
    x, _, layout = graph.arguments({n: torch.from_numpy(feed[n]) for n in graph.names})
    assert len(x) == feed["mask"].sum() + 1 < feed["mask"].size
    assert layout.num_jets == 9 + 1
    alone = graph.of_jet(feed, 3)
    assert alone["p4"].shape == (1, *feed["p4"].shape[1:])


def test_a_product_in_float64_becomes_a_sum_of_einstein(needs_onnx):
    """ONNX Runtime before 1.24 refuses the product and transposition in float64 that it makes."""

    class Gram(torch.nn.Module):
        def forward(self, x):
            return (x.double() @ x.double().mT,)

    x = torch.randn(2, 5, 3)
    model = record(Gram(), [x], {"x": ["b", "p", 3]}, ["gram"])
    assert "Einsum" in operators(model)
    assert "MatMul" not in operators(model)
    found = Session(model)({"x": x.numpy()})["gram"]
    np.testing.assert_allclose(found, x.double() @ x.double().mT, rtol=1e-14, atol=1e-14)


def check_graph(source, graph):
    expected = source.reference()
    with torch.no_grad(), higher_derivatives():
        for jets, feed in source.batches():
            tensors = [torch.from_numpy(feed[name]) for name in graph.names]
            for name, found in zip(source.outputs.names(), graph(*tensors), strict=True):
                assert found.dtype == torch.float32
                np.testing.assert_allclose(found, expected[name][jets], rtol=2e-5, atol=2e-6)


def test_long_jets_can_be_refused(run):
    source, graph = graph_of(run, padded=True, max_particles=5, on_long_jet="refuse")
    lengths = np.array([len(jet["p4"]) for jet in source.arrays])
    for jets, feed in source.batches():
        found = graph(*(torch.from_numpy(feed[name]) for name in graph.names))[0]
        assert np.array_equal(found.isnan().any(1).numpy(), lengths[jets] > 5)


@pytest.mark.parametrize("x", [1.0, -1.0, 0.0, 1e-20, -1e-20, 1e12])
@pytest.mark.parametrize("y", [1.0, -1.0, 0.0, 1e-20, -1e-20, 1e12])
def test_angles_in_a_graph_are_accurate_in_float64(x, y, monkeypatch):
    a, b = torch.tensor([y, 0.3 * y]).double(), torch.tensor([x, x]).double()
    expected = torch.atan2(a, b), torch.asinh(a)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    torch.testing.assert_close(atan2(a, b), expected[0], rtol=1e-14, atol=1e-300)
    torch.testing.assert_close(asinh(a), expected[1], rtol=1e-9, atol=1e-16)


def test_parity_refuses_large_differences():
    with pytest.raises(InputError, match=r"differs from PyTorch by 2\.0e-04"):
        Parity(100, 7, 2e-4, 0.99).check()
    with pytest.raises(InputError, match="with the same neighbours"):
        Parity(100, 7, 2e-4, 0.99, with_neighbors=2e-5).check()
    with pytest.raises(InputError, match=r"only 97\.0 %"):
        Parity(100, 7, 2e-4, 0.97, with_neighbors=1e-6).check()
    Parity(100, 7, 2e-2, 0.985, with_neighbors=1e-6).check()


def test_no_file_is_written_where_the_graph_differs(run, needs_onnx, tmp_path, monkeypatch):
    monkeypatch.setattr("pcloud.export.export.record", lambda *_: None)
    monkeypatch.setattr("pcloud.export.export.Session", lambda model: lambda feed: wrong(feed))

    def wrong(feed):
        return {"probabilities": np.array([0.5, 0.5], dtype=np.float32)}

    with pytest.raises(InputError, match="no file is written"):
        run.export(tmp_path / "tagger.onnx", jets=20)
    assert not list(tmp_path.iterdir())


def test_wrong_options_are_refused_in_one_line(run, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        run.export(tmp_path / "tagger.txt")
    with pytest.raises(UnknownNameError, match="drop"):
        run.export(tmp_path / "tagger.onnx", on_long_jet="dropp")
    with pytest.raises(InputError, match="either padded or ragged"):
        ExportOptions(padded=True, ragged=True)
    with pytest.raises(InputError, match="leave out --max-particles"):
        ExportOptions(ragged=True, max_particles=3)
    with pytest.raises(InputError, match="leave out --ragged"):
        ExportOptions(ragged=True, form="cms")
    with pytest.raises(InputError, match="max_particles must be at least 1"):
        ExportOptions(max_particles=0)
    (tmp_path / "old.onnx").touch()
    monkeypatch.setattr("pcloud.export.export.check_packages", lambda: None)
    with pytest.raises(FileExistsError, match="--overwrite"):
        run.export(tmp_path / "old.onnx")
    with pytest.raises(FileNotFoundError):
        run.export(tmp_path / "absent" / "tagger.onnx")


def test_absent_packages_are_named(run, tmp_path, monkeypatch):
    monkeypatch.setattr(packages.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'pcloud-hep\[onnx\]'"):
        export_run(run, tmp_path / "tagger.onnx")


def absent(name):
    raise ImportError(name)


def test_isotonic_calibration_is_refused(run, tmp_path, needs_onnx):
    other = run.writing_to(tmp_path / "isotonic")
    other.calibrate("isotonic")
    with pytest.raises(InputError, match="by temperature or vector, not by isotonic"):
        other.export(tmp_path / "tagger.onnx", calibrated=True)


def test_clustering_is_refused_with_the_reason(run, tmp_path, needs_onnx, monkeypatch):
    monkeypatch.setitem(vars(run.tagger()), "model", build_model("recnn", 8).eval())
    with pytest.raises(InputError, match="clusters") as error:
        run.export(tmp_path / "tagger.onnx")
    assert "\n" not in str(error.value)


def test_missing_columns_are_named(run, file):
    jets = load_run_sample(run, "test")[["p4"]]
    with pytest.raises(UnknownNameError, match="no column named 'charge' in these jets"):
        ExportedTagger(file)(jets)


def test_the_commands_export_and_check(run, file, tmp_path, capsys):
    jets = load_run_sample(run, "test")
    pcloud.write_jets(jets, tmp_path / "jets.parquet")
    assert main(["check", str(file), "--data", str(tmp_path / "jets.parquet")]) == 0
    said = capsys.readouterr().out
    table = run.evaluate(num_bootstrap=0)
    assert str(table["auc"]) in said
    assert f"measured on {len(jets)} jets" in said
    assert main(["check", str(file), "--run", str(run.path)]) == 0
    assert "largest difference" in capsys.readouterr().out
    assert main(["check", str(file)]) == 2
    assert "--data names files" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "jets.parquet"), "--run", str(run.path)]) == 2
    assert "is not an ONNX file" in capsys.readouterr().err
    assert main(["export", str(run.path), str(tmp_path / "tagger.txt")]) == 2
    assert "must end in .onnx" in capsys.readouterr().err


def test_inputs_come_back_from_their_description(run, file):
    source, _ = graph_of(run)
    described = json.loads(json.dumps(source.described_inputs()))
    assert CloudInputs.from_metadata(described) == source.inputs


class LastState(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, counts):
        return (last_padded_state(self.network, x, counts),)


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_are_operators_with_a_free_number_of_steps(name, needs_onnx):
    torch.manual_seed(0)
    layers = LastState(getattr(torch.nn, name)(3, 4, num_layers=2)).eval()
    shapes = {"x": ["num_jets", "num_particles", 3], "counts": ["num_jets"]}
    example = [torch.randn(2, 5, 3), torch.tensor([2, 5])]
    model = record(layers, example, shapes, ["state"])
    assert name in operators(model)
    x, counts = torch.randn(4, 9, 3), torch.tensor([9, 0, 1, 6])
    (expected,) = layers(x, counts)
    found = Session(model)({"x": x.numpy(), "counts": counts.numpy()})["state"]
    np.testing.assert_allclose(found, expected.detach(), atol=1e-5)


def test_recurrent_layers_are_not_compiled(monkeypatch):
    network = torch.nn.GRU(3, 4)
    x, counts = torch.randn(2, 5, 3), torch.tensor([2, 0])
    found = last_padded_state(network, x, counts)
    expected = network(x[0, :2])[1][0]
    torch.testing.assert_close(found, torch.stack([expected, torch.zeros(4)]))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with pytest.raises(InputError, match="AOTInductor has no recurrent layer"):
        last_padded_state(network, x, counts)
