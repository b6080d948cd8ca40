"""Score jets with an exported file by ONNX Runtime alone: neither torch nor pcloud is imported.

The function `scores` takes lists of jets of events, as in coffea, and returns lists of the same
lengths. The program scores the jets of a Parquet file of `pcloud convert`:

    pcloud export runs/a tagger.onnx
    python examples/score_without_torch.py tagger.onnx jets.parquet
"""

from __future__ import annotations

import json
import sys

import awkward as ak
import numpy as np
import onnxruntime


class Tagger:
    """File of `pcloud export` for one jet.

    Attributes
    ----------
    classes : list of str
        Names of the classes.
    """

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options)
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.classes = json.loads(metadata["pcloud.classes"])
        if json.loads(metadata["pcloud.form"]) != "one jet":
            raise SystemExit(f"{path} is not a file for one jet: export it without --padded")
        self.columns = [value.name for value in self.session.get_inputs() if value.name != "p4"]

    def jet(self, jet: ak.Record) -> np.ndarray:
        """Probabilities (C,) of a jet, a record with ``p4`` and columns."""
        p4 = np.stack([np.asarray(jet.p4[name]) for name in ("E", "px", "py", "pz")], axis=-1)
        feed = {"p4": p4.astype(np.float32)}
        for name in self.columns:
            feed[name] = np.atleast_1d(np.asarray(jet[name], dtype=np.float32))
        (probabilities,) = self.session.run(["probabilities"], feed)
        return probabilities


def scores(events: ak.Array, tagger: Tagger, class_name: str) -> ak.Array:
    """Score of each jet: lists as `events`, lists of jets, or numbers for jets alone."""
    is_nested = events.p4.ndim > 2
    jets = ak.flatten(events, axis=1) if is_nested else events
    column = tagger.classes.index(class_name)
    found = np.array([tagger.jet(jet)[column] for jet in jets])
    return ak.unflatten(found, ak.num(events, axis=1)) if is_nested else ak.Array(found)


def main() -> None:
    """Print the mean score of each class."""
    if len(sys.argv) != 3:
        raise SystemExit(f"usage: {sys.argv[0]} tagger.onnx jets.parquet")
    tagger = Tagger(sys.argv[1])
    jets = ak.from_parquet(sys.argv[2])
    for name in tagger.classes:
        found = scores(jets, tagger, name)
        print(f"{name}: mean score {np.mean(found):.6f} of {len(found)} jets")
    assert "torch" not in sys.modules


if __name__ == "__main__":
    main()
