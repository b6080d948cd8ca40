"""Reproduce the embedded sample: ``python -m pcloud.simulate.embedded FOLDER``.

The sample files of the package were produced by this command. With the versions of Pythia and FastJet
that are stored in the files, it produces exactly the same jets.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import pcloud
from pcloud.datasets import compact
from pcloud.datasets.compact import read_compact, read_metadata, write_compact
from pcloud.errors import InputError
from pcloud.io import FlatJets
from pcloud.io.jets import TARGETS
from pcloud.simulate.block import Settings
from pcloud.simulate.recipe import CLASSES
from pcloud.simulate.sample import make_chunks
from pcloud.simulate.workers import PartFiles, describe
from pcloud.terminal import Terminal

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


def add_targets(folder: Path, workers: int = 1, progress: bool = True) -> dict[str, int]:
    """Simulate the jets of the sample again, and add their targets to its files in `folder`.

    The targets are pT and mass of the jet before the detector. Labels and numbers of particles must
    be those of the files, and the momenta of the files stay, which another processor may have
    rounded in another way.

    The number of jets with another momentum is stored in the files, as ``targets`` of their
    provenance.

    Parameters
    ----------
    folder : Path
        Folder with ``train.parquet`` and the other files, which are replaced. Finished blocks of
        jets are stored in ``parts`` beside it; a new call continues with them.
    workers, progress
        As for :func:`make_embedded`.

    Returns
    -------
    dict of str to int
        Number of jets of each split whose simulated momenta differ from those of the files.

    Raises
    ------
    InputError
        If the labels or the numbers of particles of the simulated jets are not those of the files.
    """
    settings = Settings(SEED)
    total = sum(SIZES.values())
    wanted = {"top": total // 2, "qcd": total - total // 2}
    blocks = PartFiles(folder / "parts", settings)
    jets = FlatJets.concatenate(list(make_chunks(blocks, wanted, settings, workers, progress)))
    start = 0
    differing = {}
    for split, size in SIZES.items():
        path = folder / f"{split}.parquet"
        stored, again = read_compact(path), jets.slice(start, start + size)
        for name, one, other in (
            ("labels", stored.jet["label"], again.jet["label"]),
            ("numbers of particles", stored.counts, again.counts),
        ):
            if not np.array_equal(one, other):
                raise InputError(f"{path}: the {name} of the simulated jets differ")
        differing[split] = _num_different(stored, compact.decode(compact.encode(again)))
        stored.jet |= {name: v for name, v in again.jet.items() if name.startswith(TARGETS)}
        about = {
            "command": "python -m pcloud.simulate.embedded FOLDER --add-targets",
            "quantities": "pt and mass in GeV of the jet of stable visible particles",
            "jets_with_other_momenta": differing[split],
            **describe(settings),
        }
        write_compact(stored, path, read_metadata(path) | {"targets": about})
        start += size
    blocks.remove()
    return differing


def _num_different(one: FlatJets, other: FlatJets) -> int:
    """Number of jets with another momentum, of jets with the same numbers of particles."""
    differs = np.any([a != b for a, b in zip(one.p4, other.p4, strict=True)], axis=0)
    return int(np.count_nonzero(np.add.reduceat(differs, one.offsets[:-1])))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder for the files")
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    parser.add_argument("--add-targets", action="store_true", help="add pT and mass to old files")
    arguments = parser.parse_args()
    if not arguments.add_targets:
        make_embedded(arguments.folder, workers=arguments.workers)
        return
    for split, number in add_targets(arguments.folder, workers=arguments.workers).items():
        words = f"{split}: {number} jets with other momenta than in the file, which are kept"
        Terminal().print(words, soft_wrap=True)


if __name__ == "__main__":
    main()
