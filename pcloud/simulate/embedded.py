"""Make the embedded sample again: ``python -m pcloud.simulate.embedded FOLDER``.

The files that the package ships come from this command. With the versions of Pythia and FastJet
that they note, it makes the same jets, bit for bit.
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

#: What the package ships: the seed, and the number of jets of each split, half of them tops.
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
        Where ``train.parquet`` and the others go. Finished blocks of jets are kept in
        ``parts`` there, and an interrupted call continues with them.
    sizes : mapping of str to int
        Number of jets of each split.
    seed : int
        Seed of the whole sample.
    workers : int
        Number of processes.
    progress : bool
        Whether a progress bar is shown.
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
    parser.add_argument("folder", type=Path, help="where the files go")
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    arguments = parser.parse_args()
    make_embedded(arguments.folder, workers=arguments.workers)


if __name__ == "__main__":
    main()
