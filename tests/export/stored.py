"""Makes the files of ``tests/export/stored``: a small exported PFN, jets, and its probabilities.

Later releases must reproduce the probabilities of older files, which are kept. A new file is made
with ``python -m tests.export.stored NAME`` where the format of the files changes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import pcloud
from pcloud.export.check import ExportedTagger

FOLDER = Path(__file__).with_name("stored")
NUM_JETS = 20


def make(name: str) -> None:
    """Write NAME.onnx and NAME.npz."""
    with tempfile.TemporaryDirectory() as folder:
        run = pcloud.train(
            data="simulated", model="pfn", max_jets=4000, epochs=8, lr=0.01, batch_size=128,
            model_options={"phi_widths": [8, 8], "head_widths": [8]},
            out=f"{folder}/run", progress=False,
        )  # fmt: skip
        run.evaluate()
        FOLDER.mkdir(exist_ok=True)
        file = FOLDER / f"{name}.onnx"
        run.export(file, overwrite=True)
        tagger = ExportedTagger(file)
        jets = pcloud.load_dataset("simulated", "test")[:NUM_JETS]
        arrays = [jet["p4"] for jet in tagger.inputs.arrays(jets)]
        np.savez_compressed(
            file.with_suffix(".npz"),
            counts=[len(p4) for p4 in arrays],
            p4=np.concatenate(arrays),
            probabilities=run.predict(jets),
        )


if __name__ == "__main__":
    make(sys.argv[1])
