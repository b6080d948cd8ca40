"""Penalty on the correlation of score and jet mass: distance correlation (DisCo)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from pcloud.batch import JetDataset, collate, particles_of
from pcloud.errors import InputError, UnknownNameError
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.ranks import gathered
from pcloud.observables import OBSERVABLES, compute_observables

__all__ = [
    "Decorrelation",
    "check_decorrelation",
    "distance_correlation",
]

_TINY = 1e-12

_WARM_UP = 0.5
"""Fraction of the run during which the weight grows from 0: with the full weight from the first
step the score stays constant."""

_SPREAD_FLOOR = 0.2
"""Distance standard deviation of the score below which the penalty decreases in proportion to it."""

_MIN_BACKGROUND_JETS = 4
"""Minimum number of jets for which the unbiased estimate exists."""

_MAX_PAIRED_JETS = 4096
"""Number of jets whose pairs are held at a time in validation: 64 MiB per matrix."""

_CHECKED_JETS = 10_000
"""Number of background jets for which the variable is checked to have more than one value."""


def distance_correlation(
    x: Tensor, y: Tensor, weights: Tensor | None = None, *, unbiased: bool = False
) -> Tensor:
    """Squared distance correlation of paired samples, ().

    0 in the limit of many pairs if and only if `x` and `y` are independent, 1 if one is a linear
    function of the other. Differentiable; needs memory for B x B numbers.

    Parameters
    ----------
    x, y : Tensor, shape (B,)
        The pairs.
    weights : Tensor, shape (B,), optional
        Multiplicities of the pairs, not negative: a pair of weight 2 counts as two equal pairs, a
        pair of weight 0 is ignored.
    unbiased : bool
        Use the unbiased estimator of the distance covariance and variances. The plain estimator
        has an expectation of about 1 / B for B independent pairs; the unbiased one has an
        expectation of 0 and may be negative. It needs four pairs and is 0 for fewer.

    Raises
    ------
    ValueError
        If `x` and `y` are not vectors of equal length.

    References
    ----------
    Szekely, Rizzo and Bakirov, https://arxiv.org/abs/0803.4101;
    Szekely and Rizzo (unbiased), https://arxiv.org/abs/1310.2926;
    Kasieczka and Shih (DisCo), https://arxiv.org/abs/2001.05310.
    """
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"x and y must both have shape (B,), got {(*x.shape,)} and {(*y.shape,)}")
    w = torch.ones_like(x) if weights is None else weights.to(x)
    covariance, x_variance, y_variance = _distance_covariances(x, y, w, unbiased)
    return covariance / (x_variance * y_variance).clamp(min=_TINY**2).sqrt()


def _distance_covariances(
    x: Tensor, y: Tensor, w: Tensor, unbiased: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distance covariance of `x` and `y`, squared distance variances of both."""
    number = w.sum()
    if unbiased:
        enough = number >= _MIN_BACKGROUND_JETS
        number = number.clamp(min=_MIN_BACKGROUND_JETS)
        a, b = _centred_without_diagonal(x, w, number), _centred_without_diagonal(y, w, number)
        # a pair of multiplicity w is combined with all pairs except itself
        pairs = (w.unsqueeze(1) * w - torch.diag(w)) * enough
        total = number * (number - 3)
    else:
        number = number.clamp(min=_TINY)
        a, b = _centred(x, w, number), _centred(y, w, number)
        pairs = w.unsqueeze(1) * w
        total = number**2
    covariance, x_variance, y_variance = ((pairs * p).sum() / total for p in (a * b, a * a, b * b))
    return covariance, x_variance, y_variance


def _centred(values: Tensor, w: Tensor, number: Tensor) -> Tensor:
    """Distances (B, B) minus their means over rows and columns."""
    distance = (values.unsqueeze(1) - values).abs()
    rows = distance @ w / number
    return distance - rows.unsqueeze(1) - rows + w @ rows / number


def _centred_without_diagonal(values: Tensor, w: Tensor, number: Tensor) -> Tensor:
    """Distances (B, B) centred such that their products are unbiased: "U-centred"."""
    distance = (values.unsqueeze(1) - values).abs()
    rows = distance @ w / (number - 2)
    return distance - rows.unsqueeze(1) - rows + w @ rows / (number - 1)


class Decorrelation(nn.Module):
    """Penalty on the dependence of the score and a variable over background jets.

    For scores with a large spread it is the unbiased squared distance correlation:

        dCov²(s, v) / sqrt((dVar²(s) + 0.04) dVar²(v))

    for score s and variable v. The distance correlation alone does not depend on the scale of the
    score: the first scores of a training, which hardly differ, would be penalised as much as the
    last ones, with gradients that grow as their spread decreases, and the network would remain at
    a constant score. The constant 0.04 beside the distance variance of the score (a probability,
    whose distance variance is at most 0.25) avoids this.

    Parameters
    ----------
    variable : str
        Name in :data:`pcloud.observables.OBSERVABLES`.
    weight : float
        Weight of the penalty relative to the loss on the labels.
    background : int
        Background class. The score is the probability of any other class.

    References
    ----------
    Kasieczka and Shih, https://arxiv.org/abs/2001.05310.
    """

    def __init__(self, variable: str, weight: float, background: int = 0) -> None:
        super().__init__()
        if variable not in OBSERVABLES:
            raise UnknownNameError("variable to decorrelate from", variable, OBSERVABLES)
        if not weight >= 0:
            raise InputError(f"the weight of the decorrelation must be at least 0, got {weight}")
        self.variable, self.weight, self.background = variable, weight, background

    def weight_at(self, progress: float) -> float:
        """Weight at a progress between 0 and 1; it grows from 0 during the first half."""
        return self.weight * min(progress / _WARM_UP, 1.0)

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        """Penalty (), without its weight, of the ``logits (B, C)`` of a batch that has a layout.

        It is that of the jets of all ranks.
        """
        rows = (logits, self.values(batch), batch.y)
        return self.penalty(*(gathered(values) for values in rows))

    def values(self, batch: Batch) -> Tensor:
        """Variable of each jet, (B,)."""
        with _no_autocast(batch.p4):
            values = compute_observables(*particles_of(batch), [self.variable])
        return values[:, 0].float()

    def penalty(self, logits: Tensor, values: Tensor, labels: Tensor) -> Tensor:
        """Penalty (), without its weight, from logits (B, C), variable (B,) and labels (B,).

        0 for fewer than four background jets.
        """
        with _no_autocast(logits):
            score = 1 - logits.softmax(dim=-1)[:, self.background]
            # as weights: selecting the jets would wait for the GPU to count them
            jets = (labels == self.background).to(score)
            covariance, score_variance, variance = _distance_covariances(
                score, values, jets, unbiased=True
            )
            scale = (score_variance + _SPREAD_FLOOR**2) * variance
            return covariance / scale.clamp(min=_TINY).sqrt()

    def penalty_in_parts(self, logits: Tensor, values: Tensor, labels: Tensor) -> Tensor:
        """Mean penalty of interleaved parts of many jets, independent of their order."""
        background = (labels == self.background).nonzero().flatten()
        number = max(1, -(-len(background) // _MAX_PAIRED_JETS))
        parts = (background[first::number] for first in range(number))
        return torch.stack([self.penalty(logits[i], values[i], labels[i]) for i in parts]).mean()


def _no_autocast(tensor: Tensor) -> torch.autocast:
    """Context without autocast: in bfloat16, means of distances are wrong by several percent."""
    return torch.autocast(tensor.device.type, enabled=False)


def check_decorrelation(
    decorrelation: Decorrelation, jets: JetDataset, val: JetDataset, batch_size: int, name: str
) -> None:
    """Check that there are background jets and that the variable varies among them.

    Parameters
    ----------
    decorrelation : Decorrelation
        The penalty.
    jets, val : JetDataset
        Training and validation jets.
    batch_size : int
        Number of jets per batch.
    name : str
        Name of the background class, for the message.

    Raises
    ------
    InputError
        If the variable has one value in all background jets, or a batch has fewer than four of
        them on average, or the validation jets have fewer.
    """
    assert jets.y is not None
    assert val.y is not None
    validation = int((val.y == decorrelation.background).sum())
    if validation < _MIN_BACKGROUND_JETS:
        raise InputError(
            f"decorrelate needs at least {_MIN_BACKGROUND_JETS} background jets for validation, "
            f"there are {validation} of class {name!r}"
        )
    background = (jets.y == decorrelation.background).nonzero().flatten()
    expected = min(batch_size, len(jets)) * len(background) / len(jets)
    if expected < _MIN_BACKGROUND_JETS:
        raise InputError(
            f"decorrelate needs at least {_MIN_BACKGROUND_JETS} background jets in a batch: of "
            f"{min(batch_size, len(jets))} jets {expected:.2g} are of class {name!r} on average; "
            "raise batch_size or name another class in decorrelate_background"
        )
    batch = collate(jets, background[:_CHECKED_JETS])
    batch.layout = RaggedLayout.from_ptr(batch.ptr)
    values = decorrelation.values(batch)
    if (values == values[0]).all():
        raise InputError(
            f"there is nothing to decorrelate from: the {decorrelation.variable} of all jets of "
            f"class {name!r} is {float(values[0]):g}"
        )
