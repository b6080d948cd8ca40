"""Figure of the significance improvement against the signal efficiency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from pcloud.evaluation.figures.style import MUTED, figure_style, line_styles, new_figure
from pcloud.evaluation.significance import SignificanceImprovement
from pcloud.text import for_figure

__all__ = ["significance_figure"]


@figure_style()
def significance_figure(
    found: Sequence[SignificanceImprovement] | Mapping[str, SignificanceImprovement],
) -> Figure:
    """Draw eS / sqrt(eB) with its 68 % intervals; limits are left out.

    Parameters
    ----------
    found : sequence of SignificanceImprovement, or mapping of str to these
        Improvements of each signal, or of taggers by name.

    Returns
    -------
    Figure
    """
    lines = found.items() if isinstance(found, Mapping) else [(one.name, one) for one in found]
    figure, (axes,) = new_figure(4.0)
    for (name, one), style in zip(lines, line_styles(len(found)), strict=True):
        pairs = [(e, v) for e, v in zip(one.efficiencies, one.values, strict=True) if not v.limit]
        values = [v.value for _, v in pairs]
        ends = [[v.value - v.low for _, v in pairs], [v.high - v.value for _, v in pairs]]
        label = for_figure(name) if name else None
        axes.errorbar([e for e, _ in pairs], values, ends, label=label, capsize=2, **style)
    axes.axhline(1, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(0, 1)
    axes.set_xlabel("signal efficiency")
    axes.set_ylabel(r"significance improvement $\epsilon_S / \epsilon_B^{1/2}$")
    if len(found) > 1:
        figure.legend(loc="outside upper center", ncols=3)
    return figure
