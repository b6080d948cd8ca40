"""Figures of an evaluation. Each function returns a matplotlib figure; `save_figure` saves it."""

from pcloud.evaluation.figures.confusion import confusion_figure, confusion_matrix
from pcloud.evaluation.figures.curves import training_figure
from pcloud.evaluation.figures.histogram import score_figure
from pcloud.evaluation.figures.reliability import reliability_figure
from pcloud.evaluation.figures.roc import roc_figure
from pcloud.evaluation.figures.style import figure_style, save_figure

__all__ = [
    "confusion_figure",
    "confusion_matrix",
    "figure_style",
    "reliability_figure",
    "roc_figure",
    "save_figure",
    "score_figure",
    "training_figure",
]
