"""The example that scores the jets of PFNano events in a coffea processor."""

from __future__ import annotations

import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import awkward as ak
import numpy as np
import pytest
import uproot

import pcloud
from pcloud.export.record import Session
from pcloud.training.run_sample import load_run_sample
from tests.conftest import REPOSITORY
from tests.export.conftest import PFN

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


@pytest.fixture
def server(padded_file):
    """Address of a server of Triton's protocol, which computes with ONNX Runtime."""
    reason = "tritonclient is not installed"
    service = pytest.importorskip("tritonclient.grpc.service_pb2", reason=reason)
    stubs = pytest.importorskip("tritonclient.grpc.service_pb2_grpc", reason=reason)
    import grpc

    session = Session(str(padded_file))
    types = {"FP32": np.float32, "BOOL": np.bool_}

    class Server(stubs.GRPCInferenceServiceServicer):
        def ModelMetadata(self, request, context):
            assert request.name == "tagger"
            answer = service.ModelMetadataResponse()
            shapes = {"p4": [-1, 6, 4], "charge": [-1, 6], "mask": [-1, 6]}
            for name in session.inputs:
                kind = "BOOL" if name == "mask" else "FP32"
                answer.inputs.add(name=name, datatype=kind, shape=shapes[name])
            return answer

        def ModelInfer(self, request, context):
            feed = {
                tensor.name: np.frombuffer(raw, types[tensor.datatype]).reshape(tensor.shape)
                for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
            }
            values = session(feed)["probabilities"]
            answer = service.ModelInferResponse(raw_output_contents=[values.tobytes()])
            answer.outputs.add(name="probabilities", datatype="FP32", shape=values.shape)
            return answer

    running = grpc.server(ThreadPoolExecutor(1))
    stubs.add_GRPCInferenceServiceServicer_to_server(Server(), running)
    port = running.add_insecure_port("localhost:0")
    running.start()
    yield f"localhost:{port}/tagger"
    running.stop(None).wait()


def scores_of(example, tagger, events):
    work = example["ScoreProcessor"](tagger, "b", ["a", "b"])
    return work.postprocess(work.process(events))["scores"]


def test_a_run_and_its_file_give_each_jet_its_score(run, padded_file, events, jets, example):
    expected = run.predict(jets)[:, 1]
    for tagger in (str(run.path), str(padded_file)):
        found = scores_of(example, tagger, events)
        assert ak.num(found).tolist() == LENGTHS
        np.testing.assert_allclose(ak.flatten(found), expected, atol=1e-5)


def test_a_triton_server_gives_each_jet_its_score(run, server, events, jets, example):
    found = scores_of(example, server, events)
    assert ak.num(found).tolist() == LENGTHS
    np.testing.assert_allclose(ak.flatten(found), run.predict(jets)[:, 1], atol=1e-5)


@pytest.fixture(scope="module")
def nanoaod(reference_data):
    """Events of a NanoAOD file without candidates, with their objects as records, as in coffea."""
    clouds = runpy.run_path(str(EXAMPLE.with_name("event_cloud.py")))
    names = [f"{kind}_{name}" for kind in clouds["KINDS"] for name in clouds["COLUMNS"]]
    with uproot.open(reference_data / "nanoAOD_2015_CMS_Open_Data_ttbar.root") as file:
        flat = file["Events"].arrays(filter_name=names)
    records = {}
    for kind in clouds["KINDS"]:
        columns = {n: f"{kind}_{n}" for n in clouds["COLUMNS"] if f"{kind}_{n}" in flat.fields}
        records[kind] = ak.zip({name: flat[branch] for name, branch in columns.items()})
    return ak.zip(records, depth_limit=1), clouds["clouds"](flat), clouds


def test_events_without_candidates_get_one_score_each(nanoaod, needs_onnx, example, tmp_path):
    events, expected, clouds = nanoaod
    sample = clouds["clouds"](clouds["make_events"](200))
    sample.attrs["classes"] = ["Z", "b"]
    options = {"model": "pfn", "model_options": PFN, "features": clouds["FEATURES"]}
    run = pcloud.train(
        data=sample, out=str(tmp_path / "run"), epochs=3, lr=0.01, progress=False, **options
    )
    file = tmp_path / "events.onnx"
    run.export(file, padded=True, jets=20)
    for tagger in (str(run.path), str(file)):
        found = scores_of(example, tagger, events)
        np.testing.assert_allclose(found, run.predict(expected)[:, 1], atol=1e-5)


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
