"""The example that scores the jets of PFNano events in a coffea processor."""

from __future__ import annotations

import runpy
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import awkward as ak
import numpy as np
import pytest

from pcloud.export.record import Session
from pcloud.training.run_sample import load_run_sample
from tests.conftest import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "coffea_scores.py"
LENGTHS = [3, 0, 4, 5, 1]  # jets of the events


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


@pytest.fixture(scope="module")
def jets(run):
    """Jets of at most six candidates, the limit of the file."""
    jets = load_run_sample(run, "test")[: sum(LENGTHS)]
    order = ak.argsort(jets.p4.px**2 + jets.p4.py**2, axis=1, ascending=False)[:, :6]
    return ak.zip({"p4": jets.p4[order], "charge": jets.charge[order]}, depth_limit=1)


@pytest.fixture(scope="module")
def events(jets):
    """Events with a table of indices, whose rows and candidates are in another order than the jets."""
    p4 = jets.p4
    columns = {"px": p4.px, "py": p4.py, "pz": p4.pz, "E": p4.E, "charge": jets.charge}
    flat = {n: ak.unflatten(v, LENGTHS) for n, v in columns.items()}  # events * jets * candidates
    number = ak.broadcast_arrays(ak.local_index(flat["px"], axis=1), flat["px"])[0]
    columns = {n: ak.flatten(v, axis=2)[:, ::-1] for n, v in flat.items()}
    pt = np.hypot(columns["px"], columns["py"])
    mass2 = columns["E"] ** 2 - pt**2 - columns["pz"] ** 2
    candidates = ak.zip({
        "pt": pt, "eta": np.arcsinh(columns["pz"] / pt),
        "phi": np.arctan2(columns["py"], columns["px"]), "mass": np.sqrt(np.maximum(mass2, 0)),
        "charge": columns["charge"],
    })  # fmt: skip
    table = ak.zip(
        {"jetIdx": ak.flatten(number, axis=2), "pFCandsIdx": ak.local_index(pt)[:, ::-1]}
    )
    ones = ak.unflatten(np.ones(sum(LENGTHS)), LENGTHS)
    first = ak.zip(dict.fromkeys(("pt", "eta", "phi", "mass"), ones))
    return ak.zip(
        {"FatJet": first, "PFCands": candidates, "FatJetPFCands": table}, depth_limit=1
    )  # fmt: skip


def fake_server(path):
    """Module in the place of tritonclient, whose server computes with ONNX Runtime."""
    session = Session(str(path))
    types = {"mask": "BOOL"}

    class Client:
        def __init__(self, url):
            assert url == "localhost:8000"

        def get_model_metadata(self, model):
            shapes = {"p4": [-1, 6, 4], "charge": [-1, 6], "mask": [-1, 6]}
            names = session.inputs
            return {
                "inputs": [
                    {"name": n, "shape": shapes[n], "datatype": types.get(n, "FP32")} for n in names
                ]
            }

        def infer(self, model, inputs):
            assert model == "tagger"
            found = session({tensor.name: tensor.values for tensor in inputs})
            return SimpleNamespace(as_numpy=found.__getitem__)

    class InferInput:
        def __init__(self, name, shape, datatype):
            self.name, self.shape = name, shape

        def set_data_from_numpy(self, values):
            assert list(values.shape) == self.shape
            self.values = values

    module = ModuleType("tritonclient")
    module.http = SimpleNamespace(InferenceServerClient=Client, InferInput=InferInput)
    return module


def test_three_taggers_give_each_jet_its_score(
    run, padded_file, events, jets, example, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tritonclient", fake_server(padded_file))
    expected = run.predict(jets)[:, 1]
    for tagger in (str(run.path), str(padded_file), "localhost:8000/tagger"):
        work = example["ScoreProcessor"](tagger, "b", ["a", "b"])
        found = work.postprocess(work.process(events))["scores"]
        assert ak.num(found).tolist() == LENGTHS
        np.testing.assert_allclose(ak.flatten(found), expected, atol=1e-5)


@pytest.mark.once
def test_onnx_runtime_alone_scores_events_without_torch(run, padded_file, events, jets, tmp_path):
    ak.to_parquet(events, tmp_path / "events.parquet")
    lines = (
        "import runpy, sys, awkward as ak",
        f"work = runpy.run_path({str(EXAMPLE)!r})['ScoreProcessor']({str(padded_file)!r}, 'b')",
        f"events = ak.from_parquet({str(tmp_path / 'events.parquet')!r})",
        "print(ak.sum(work.postprocess(work.process(events))['scores']))",
        "assert not {'torch', 'pcloud'} & set(sys.modules)",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(run.predict(jets)[:, 1].sum(), abs=1e-4)


@pytest.mark.once
@pytest.mark.filterwarnings("ignore")  # of coffea and distributed
def test_files_are_processed_in_chunks_here_and_on_dask(
    run, padded_file, events, jets, example, tmp_path, monkeypatch
):
    uproot = pytest.importorskip("uproot")
    pytest.importorskip("coffea.processor", reason="coffea is not installed")
    tree = {name: events[name] for name in events.fields}
    tree |= {name: np.arange(5, dtype=np.uint64) for name in ("run", "event", "luminosityBlock")}
    path = tmp_path / "pfnano.root"
    with uproot.recreate(path) as file:
        types = {n: v.type if isinstance(v, ak.Array) else v.dtype for n, v in tree.items()}
        file.mktree("Events", types).extend(tree)
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    import coffea_scores

    expected = run.predict(jets)[:, 1]
    for workers in (0, 1):
        work = coffea_scores.ScoreProcessor(str(padded_file), "b")
        found = coffea_scores.run_processor([str(path)], work, workers, chunk=2)["scores"]
        assert ak.num(found).tolist() == LENGTHS
        np.testing.assert_allclose(ak.flatten(found), expected, atol=1e-5)
