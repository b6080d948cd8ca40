"""Table of all models."""

from __future__ import annotations

from pcloud.errors import MissingExtraError
from pcloud.models.flops import flops_per_jet
from pcloud.models.registry import build_model, list_models, model_info

__all__ = ["model_table", "to_markdown"]

_HEADER = ["model", "paper", "year", "inputs", "exact symmetries", "parameters"]


def model_table(*, flops: bool = False) -> list[list[str]]:
    """Header and one row for every model: paper, inputs, symmetries, size, use.

    The numbers of parameters and operations are for 7 inputs and 2 classes, and for a jet of 50
    particles. They are empty for a model whose extra is not installed.

    Parameters
    ----------
    flops : bool
        Whether to count the operations per jet, which takes a few seconds.
    """
    header = [*_HEADER, *(["MFLOP per jet"] if flops else []), "good for"]
    return [header, *(_row(name, flops=flops) for name in list_models())]


def to_markdown(rows: list[list[str]]) -> str:
    """Return the table as Markdown, with links to the papers."""
    header, *body = rows
    lines = [header, ["---"] * len(header), *([f"`{r[0]}`", _link(r[1]), *r[2:]] for r in body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(name: str, *, flops: bool) -> list[str]:
    info = model_info(name)
    try:
        model = build_model(name, in_features=7)
        numbers = [f"{sum(p.numel() for p in model.parameters()):,}"]
        if flops:
            numbers.append(f"{flops_per_jet(model) / 1e6:.3g}")
    except MissingExtraError:
        numbers = ["", ""] if flops else [""]
    about = [f"arXiv:{info.paper}", str(info.year), info.inputs, ", ".join(info.symmetries)]
    return [name, *about, *numbers, info.use]


def _link(paper: str) -> str:
    return f"[{paper.removeprefix('arXiv:')}](https://arxiv.org/abs/{paper.removeprefix('arXiv:')})"
