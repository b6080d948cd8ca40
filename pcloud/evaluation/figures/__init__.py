"""Figures of an evaluation; each function returns a matplotlib figure, `save_figure` keeps it."""

from pcloud.evaluation.figures.confusion import confusion_figure, confusion_matrix
from pcloud.evaluation.figures.curves import training_figure
from pcloud.evaluation.figures.histogram import score_figure
from pcloud.evaluation.figures.roc import roc_figure
from pcloud.evaluation.figures.style import figure_style, save_figure

__all__ = [
    "confusion_figure",
    "confusion_matrix",
    "figure_style",
    "roc_figure",
    "save_figure",
    "score_figure",
    "training_figure",
]
