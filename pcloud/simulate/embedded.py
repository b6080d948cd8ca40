"""Reproduce the embedded sample: ``python -m pcloud.simulate.embedded FOLDER``.

The sample files of the package were produced by this command. With the versions of Pythia and FastJet
that are stored in the files, it produces exactly the same jets.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import pcloud
from pcloud.datasets.compact import write_compact
from pcloud.io import FlatJets
from pcloud.simulate.block import Settings
from pcloud.simulate.recipe import CLASSES
from pcloud.simulate.sample import make_chunks
from pcloud.simulate.workers import PartFiles, describe

#: Seed of the embedded sample, and number of jets of each split, half of them top jets.
SEED = 2026
SIZES = {"train": 36_000, "val": 5_000, "test": 10_000}


def make_embedded(
    folder: Path,
    sizes: Mapping[str, int] = SIZES,
    seed: int = SEED,
    workers: int = 1,
    progress: bool = True,
) -> None:
    """Simulate the jets of all splits and write them in the compact encoding.

    Parameters
    ----------
    folder : Path
        Folder for ``train.parquet`` and the other files. Finished blocks of jets are stored in
        ``parts`` in this folder; a new call continues with them after an interruption.
    sizes : mapping of str to int
        Number of jets of each split.
    seed : int
        Seed of the sample.
    workers : int
        Number of processes.
    progress : bool
        If True, a progress bar is shown.
    """
    settings = Settings(seed)
    total = sum(sizes.values())
    wanted = {"top": total // 2, "qcd": total - total // 2}
    blocks = PartFiles(folder / "parts", settings)
    jets = FlatJets.concatenate(list(make_chunks(blocks, wanted, settings, workers, progress)))
    start = 0
    for split, size in sizes.items():
        metadata = {
            "command": "python -m pcloud.simulate.embedded FOLDER",
            "split": split,
            "jets": [start, start + size],
            "classes": CLASSES,
            "pcloud": pcloud.__version__,
            **describe(settings),
        }
        write_compact(jets.slice(start, start + size), folder / f"{split}.parquet", metadata)
        start += size
    blocks.remove()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder for the files")
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    arguments = parser.parse_args()
    make_embedded(arguments.folder, workers=arguments.workers)


if __name__ == "__main__":
    main()
