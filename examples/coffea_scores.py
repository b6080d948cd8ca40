"""Score jets or events of NanoAOD files in a coffea processor, by three taggers behind one call.

    pcloud export runs/a tagger.onnx --padded --max-particles 128 --triton models
    python examples/coffea_scores.py pfnano.root --tagger runs/a            # the run, with torch
    python examples/coffea_scores.py pfnano.root --tagger tagger.onnx       # ONNX Runtime alone
    python examples/coffea_scores.py pfnano.root --tagger localhost:8001/tagger --classes qcd top
    python examples/coffea_scores.py pfnano.root --tagger tagger.onnx --dask 2

Events go in, and a score per jet comes out, in lists of the lengths of `FatJet`. The candidates of a
jet come from the table `FatJetPFCands`. Where a file has no candidates, a score per event comes out, from
its jets, leptons and missing energy, by a tagger such as that of `examples/event_cloud.py`:

    python examples/event_cloud.py && pcloud export runs/events events.onnx --padded
    python examples/coffea_scores.py nanoaod.root --tagger events.onnx --class-name "top pair"

It needs coffea 2025 or later, and distributed for `--dask`. Neither torch nor pcloud is imported unless the
tagger is a run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import awkward as ak
import numpy as np

try:
    from coffea.nanoevents import PFNanoAODSchema
    from coffea.processor import ProcessorABC
except ImportError:
    PFNanoAODSchema = ProcessorABC = object

_JETS_OF_A_CALL = 128
_OBJECTS = ("Electron", "Muon", "Jet", "MET")


class RunTagger:
    """Folder of a run, in this process."""

    def __init__(self, folder: str) -> None:
        import pcloud

        self.run = pcloud.Run(folder)
        self.classes = list(self.run.classes)
        self.columns = self.run.feature_set.particle_columns

    def __call__(self, jets: ak.Array) -> np.ndarray:
        """Probabilities (B, C) of lists of candidates."""
        columns = {name: jets[name] for name in self.columns}
        return np.asarray(self.run.predict(ak.zip({"p4": jets, **columns}, depth_limit=1)))


class _PaddedTagger:
    """Tagger that takes batches of padded jets with masks."""

    classes: list[str]
    columns: list[str]
    max_particles: int | None

    def infer(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        """Probabilities (B, C) from the inputs by name."""
        raise NotImplementedError

    def __call__(self, jets: ak.Array) -> np.ndarray:
        """Probabilities (B, C) of lists of candidates, NaN for jets without any."""
        counts = ak.to_numpy(ak.num(jets, axis=1))
        found = np.full((len(jets), len(self.classes)), np.nan)
        order = np.argsort(counts, kind="stable")
        order = order[counts[order] > 0]
        for first in range(0, len(order), _JETS_OF_A_CALL):
            rows = order[first : first + _JETS_OF_A_CALL]
            found[rows] = self.infer(self.padded(jets[rows]))
        return found

    def padded(self, jets: ak.Array) -> dict[str, np.ndarray]:
        """Inputs by name: momenta in GeV, columns and mask; of long jets the hardest candidates."""
        jets = jets[ak.argsort(jets.pt, axis=1, ascending=False)]
        counts = ak.to_numpy(ak.num(jets, axis=1))
        length = self.max_particles or int(counts.max(initial=1))

        def filled(values: ak.Array) -> np.ndarray:
            clipped = ak.pad_none(values, length, axis=1, clip=True)
            return ak.to_numpy(ak.fill_none(clipped, 0.0)).astype(np.float64)

        pt, eta, phi, mass = (filled(jets[name]) for name in ("pt", "eta", "phi", "mass"))
        p = pt * np.cosh(eta)
        p4 = [np.hypot(p, mass), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]
        feed = {name: filled(jets[name]).astype(np.float32) for name in self.columns}
        mask = np.arange(length) < counts[:, None]
        return feed | {"p4": np.stack(p4, axis=-1).astype(np.float32), "mask": mask}


class OnnxTagger(_PaddedTagger):
    """File of ``pcloud export --padded``, by ONNX Runtime on one thread."""

    def __init__(self, path: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options)
        stored = self.session.get_modelmeta().custom_metadata_map
        if json.loads(stored["pcloud.form"]) != "padded":
            raise SystemExit(f"{path} is not a file for batches: export it with --padded")
        self.classes = json.loads(stored["pcloud.classes"])
        self.max_particles = json.loads(stored["pcloud.max_particles"])
        names = [value.name for value in self.session.get_inputs()]
        self.columns = [name for name in names if name not in ("p4", "mask")]

    def infer(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        """Probabilities (B, C) from the inputs by name."""
        return self.session.run(["probabilities"], feed)[0]


class TritonTagger(_PaddedTagger):
    """Model of a Triton server, ``host:port/model``, in the repository of ``pcloud export --triton``."""

    def __init__(self, address: str, classes: list[str]) -> None:
        from tritonclient import grpc

        url, _, self.model = address.rpartition("/")
        self.grpc = grpc
        self.client = grpc.InferenceServerClient(url)
        self.inputs = self.client.get_model_metadata(self.model, as_json=True)["inputs"]
        shapes = {entry["name"]: entry["shape"] for entry in self.inputs}
        if "mask" not in shapes:
            raise SystemExit(f"{address} is not a model for batches: export it with --padded")
        longest = int(shapes["mask"][-1])
        self.max_particles = longest if longest > 0 else None
        self.columns = [name for name in shapes if name not in ("p4", "mask")]
        self.classes = classes

    def infer(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        """Probabilities (B, C) from the inputs by name."""
        inputs = []
        for entry in self.inputs:
            values = feed[entry["name"]]
            tensor = self.grpc.InferInput(entry["name"], list(values.shape), entry["datatype"])
            tensor.set_data_from_numpy(values)
            inputs.append(tensor)
        return self.client.infer(self.model, inputs).as_numpy("probabilities")


def make_tagger(where: str, classes: list[str]) -> RunTagger | OnnxTagger | TritonTagger:
    """Tagger of a file, of a folder of a run, or of an address."""
    if where.endswith(".onnx"):
        return OnnxTagger(where)
    return RunTagger(where) if Path(where).is_dir() else TritonTagger(where, classes)


class EventSchema(PFNanoAODSchema):
    """PFNano, also without numbers of luminosity blocks, of which coffea then warns."""

    error_missing_event_ids = False


def candidates_of_jets(events: ak.Array) -> ak.Array:
    """Candidates of each jet, events * jets * candidates, from the table of their indices."""
    table = events.FatJetPFCands
    table = table[ak.argsort(table.jetIdx, axis=1, stable=True)]
    candidates = events.PFCands[table.pFCandsIdx]
    numbers = ak.local_index(events.FatJet.pt, axis=1)
    counts = ak.sum(table.jetIdx[:, None, :] == numbers[:, :, None], axis=-1)
    jets = ak.unflatten(ak.flatten(candidates, axis=1), ak.flatten(counts, axis=1))
    return ak.unflatten(jets, ak.num(counts, axis=1))


def objects_of_events(events: ak.Array) -> ak.Array:
    """Leptons, jets and missing energy of each event as one list, with the columns of a tagger."""
    parts = []
    for number, kind in enumerate(_OBJECTS):
        objects = events[kind]
        lists = objects if objects.pt.ndim > 1 else ak.unflatten(objects, 1)
        zero = 0 * lists.pt
        column = {n: lists[n] if n in lists.fields else zero for n in ("pt", "eta", "phi", "mass")}
        column["mass"] = np.maximum(column["mass"], 0)  # below 0 by the rounding of NanoAOD
        column["charge"] = lists.charge if "charge" in lists.fields else zero
        btag = lists.btagCSVV2 if "btagCSVV2" in lists.fields else zero
        column |= {"btag": np.maximum(btag, 0), "kind": zero + number}
        parts.append(ak.zip({name: ak.values_astype(v, np.float32) for name, v in column.items()}))
    return ak.concatenate(parts, axis=1)


class ScoreProcessor(ProcessorABC):
    """Score of each jet for one class; of each event where the jets have no candidates.

    The tagger is made by each worker at its first chunk: only its name is sent to the workers.
    """

    def __init__(self, tagger: str, class_name: str, classes: list[str] | None = None) -> None:
        self.where = tagger
        self.class_name = class_name
        self.given = classes or []
        self._tagger = None

    def __getstate__(self) -> dict:
        return vars(self) | {"_tagger": None}

    def process(self, events: ak.Array) -> dict[str, dict[tuple[str, int], ak.Array]]:
        """Scores of the jets or events of a chunk, by its file and first event."""
        self._tagger = self._tagger or make_tagger(self.where, self.given)
        column = self._tagger.classes.index(self.class_name)
        if "PFCands" in events.fields:
            candidates = candidates_of_jets(events)
            counts = ak.to_numpy(
                ak.num(candidates, axis=1)
            )  # no array of coffea: its behaviours stay
            scores = self._tagger(ak.flatten(candidates, axis=1))[:, column]
            scores = ak.unflatten(scores, counts)
        else:
            scores = ak.Array(self._tagger(objects_of_events(events))[:, column])
        metadata = getattr(events, "metadata", None) or {}
        chunk = str(metadata.get("filename", "")), int(metadata.get("entrystart", 0))
        return {"scores": {chunk: scores}}

    def postprocess(self, accumulator: dict) -> dict:
        """Join the chunks of all files in order."""
        chunks = accumulator["scores"]
        return {"scores": ak.concatenate([chunks[chunk] for chunk in sorted(chunks)])}


def run_processor(
    files: list[str], work: ScoreProcessor, dask: int = 0, chunk: int = 50_000
) -> dict:
    """Run a processor over PFNano files, in this process or on `dask` worker processes."""
    from coffea import processor

    fileset = {"jets": {"files": dict.fromkeys(files, "Events")}}
    if not dask:
        runner = processor.Runner(
            processor.IterativeExecutor(status=False), schema=EventSchema, chunksize=chunk
        )
        return runner(fileset, work)
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=dask, threads_per_worker=1) as cluster, Client(cluster) as client:
        client.upload_file(__file__)  # the class of the processor
        executor = processor.DaskExecutor(client=client, status=False)
        return processor.Runner(executor, schema=EventSchema, chunksize=chunk)(fileset, work)


def main() -> None:
    """Print the scores of the first events."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument(
        "--tagger", required=True, help="folder of a run, .onnx file, host:port/model"
    )
    parser.add_argument("--class-name", default="top")
    parser.add_argument("--classes", nargs="+", default=["qcd", "top"], help="of a Triton model")
    parser.add_argument("--dask", type=int, default=0, help="number of worker processes")
    options = parser.parse_args()
    arguments = (options.tagger, options.class_name, options.classes)
    if options.dask:  # the workers know the classes by the name of this file
        sys.path.insert(0, str(Path(__file__).parent))
        import coffea_scores as sent

        found = sent.run_processor(options.files, sent.ScoreProcessor(*arguments), options.dask)
    else:
        found = run_processor(options.files, ScoreProcessor(*arguments))
    scores = found["scores"]
    print(f"{len(scores)} events, {ak.count(scores)} scores: {scores.type}")
    for event in scores[:5]:
        print(" ".join(f"{score:.4f}" for score in np.atleast_1d(event)) or "no jets")
    print(f"mean score {ak.mean(scores):.6f}, torch imported: {'torch' in sys.modules}")


if __name__ == "__main__":
    main()
