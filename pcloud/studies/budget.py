"""How many jets a command looks at where nobody says: as many as take some minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcloud.models.flops import count_flops
from pcloud.training.inputs import Sample, make_dataset, make_loader, network_inputs

if TYPE_CHECKING:
    from pcloud.training.run import Run

__all__ = ["jets_within_budget"]

_OPERATIONS = 4e12  # four minutes of one core, which does 10 to 20 GFLOP/s in the networks here
_COUNTED = 16  # jets on which operations are counted


def jets_within_budget(
    run: Run,
    sample: Sample,
    *,
    passes: float,
    most: int,
    least: int = 20,
    checkpoint: str = "best",
) -> int:
    """Number of jets that a network passes so many times within some minutes of one core.

    It depends on the network and on nothing of the machine: the same command looks at the same
    jets everywhere.

    Parameters
    ----------
    run : Run
        The trained tagger.
    sample : awkward.Array or ImageSet
        Jets such as those to look at.
    passes : float
        How often each of them passes the network; the way back counts as two.
    most : int
        Answer for a network that is fast enough.
    least : int
        Answer for one that is not.
    checkpoint : str
        ``"best"`` or ``"last"``.
    """
    most = min(most, len(sample))
    if most <= least:
        return most
    few = make_dataset(sample[:_COUNTED], run.feature_set)
    (batch,) = make_loader(few, _COUNTED)
    operations = count_flops(run.network(checkpoint).cpu(), *network_inputs(batch)) / len(few)
    return int(min(most, max(least, _OPERATIONS / max(operations * passes, 1.0))))
