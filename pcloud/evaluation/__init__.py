"""Performance of a tagger with statistical errors, from arrays of labels and scores."""

from pcloud.evaluation.custom_metrics import list_metrics, register_metric
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.metrics import evaluate, evaluate_scores_file
from pcloud.evaluation.scores import Scores, read_scores
from pcloud.evaluation.table import EvaluationTable, read_metrics, write_metrics

__all__ = [
    "EvaluationTable",
    "Measured",
    "Scores",
    "evaluate",
    "evaluate_scores_file",
    "list_metrics",
    "read_metrics",
    "read_scores",
    "register_metric",
    "write_metrics",
]
