"""Default number of jets of a study: as many as the network passes in some minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcloud.modality import Sample
from pcloud.models.flops import count_flops

if TYPE_CHECKING:
    from pcloud.training.run_folder import RunFolder

__all__ = ["jets_within_budget"]

_OPERATIONS = 4e12  # four minutes of one core, which does 10 to 20 GFLOP/s in the networks here
_COUNTED = 16  # jets on which operations are counted


def jets_within_budget(
    run: RunFolder,
    sample: Sample,
    *,
    passes: float,
    most: int,
    least: int = 20,
    checkpoint: str = "best",
) -> int:
    """Number of jets that a network passes `passes` times within some minutes of one core.

    It depends on the network and not on the machine: the same command takes the same jets
    everywhere.

    Parameters
    ----------
    run : RunFolder
        The trained tagger.
    sample : awkward.Array or ImageSet
        The jets of the study.
    passes : float
        Number of forward passes per jet; a backward pass counts as two.
    most : int
        Largest number, that of a fast network.
    least : int
        Smallest number, that of a slow network.
    checkpoint : str
        ``"best"`` or ``"last"``.
    """
    most = min(most, len(sample))
    if most <= least:
        return most
    modality = run.modality
    few = modality.dataset(sample[:_COUNTED], run.feature_set)
    (batch,) = modality.loader(few, _COUNTED)
    arguments = modality.arguments(batch)
    operations = count_flops(run.network(checkpoint).cpu(), *arguments) / len(few)
    return int(min(most, max(least, _OPERATIONS / max(operations * passes, 1.0))))
