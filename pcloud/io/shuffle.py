"""Random order of jets that do not fit into memory, in two passes over them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pcloud.io.jets import FlatJets
from pcloud.io.parquet import ParquetWriter
from pcloud.io.read import JetFiles
from pcloud.run_files import TEMPORARY_PREFIX, write_errors

__all__ = ["shuffled_chunks"]

_MAX_PARTS = 512
_WAITING_JETS = 256  # of each part, in memory before they are written


def shuffled_chunks(
    chunks: Iterable[FlatJets],
    folder: Path,
    num_jets: int,
    *,
    classes: tuple[str, ...],
    size: int,
    seed: int = 0,
) -> Iterator[FlatJets]:
    """Jets of all chunks in random order.

    The first pass gives each jet to one of some parts at random, which are temporary files. The
    second pass reads one part after the other into memory and permutes it. The order depends on
    `seed` and `size`, not on the chunks.

    Parameters
    ----------
    chunks : iterable of FlatJets
        Jets, of which one chunk is in memory at a time.
    folder : Path
        Folder of the temporary files, which take as much space as the jets.
    num_jets : int
        Approximate number of jets.
    classes : tuple of str
        Names of the classes.
    size : int
        Approximate number of jets of a part.
    seed : int
        Seed of the order.

    Yields
    ------
    FlatJets
        Jets of a part.
    """
    number = int(min(_MAX_PARTS, max(1, -(-num_jets // size))))
    rng = np.random.default_rng([seed, number])
    with (
        write_errors(folder),
        tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder) as temporary,
    ):
        paths = [Path(temporary) / f"{i}.parquet" for i in range(number)]
        _scatter(chunks, paths, classes, rng)
        for i in np.flatnonzero([path.exists() for path in paths]):
            stream = JetFiles(paths[i], "pcloud", check_units=False)
            jets = FlatJets.concatenate([stream.empty, *stream.pieces()])
            order = np.random.default_rng([seed, number, int(i)]).permutation(len(jets))
            paths[i].unlink()
            yield FlatJets.from_awkward(jets.to_awkward()[order])
            del jets


def _scatter(
    chunks: Iterable[FlatJets],
    paths: list[Path],
    classes: tuple[str, ...],
    rng: np.random.Generator,
) -> None:
    """Write each jet to a random one of some files."""
    writers: list[ParquetWriter | None] = [None] * len(paths)
    try:
        for chunk in chunks:
            part = rng.integers(len(paths), size=len(chunk))
            for i in np.unique(part):
                jets = chunk.select(part == i)
                if (writer := writers[i]) is None:
                    writer = writers[i] = ParquetWriter(
                        paths[i], jets, classes, row_group=_WAITING_JETS
                    )
                writer.write(jets)
            del chunk
        for writer in writers:
            if writer is not None:
                writer.close()
    except BaseException:
        for writer in writers:
            if writer is not None:
                writer.discard()
        raise
