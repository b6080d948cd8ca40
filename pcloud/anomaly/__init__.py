"""Anomaly detection: autoencoders and densities that learn one class, and score what differs from it.

The outputs of a detector are 0 for the first class, which it learns, and ``asinh(score)`` for every
other. A score is thus written, evaluated and drawn like that of a tagger.
"""

from pcloud.anomaly.cloud_autoencoder import CloudAutoencoder
from pcloud.anomaly.collapse import Collapse, measure_collapse
from pcloud.anomaly.detector import Detector, anomaly_logits, anomaly_score
from pcloud.anomaly.distances import chamfer_distance, energy_mover_distance
from pcloud.anomaly.image_autoencoder import ImageAutoencoder, JetImageAutoencoder
from pcloud.anomaly.observable_flow import ObservableFlow

__all__ = [
    "CloudAutoencoder",
    "Collapse",
    "Detector",
    "ImageAutoencoder",
    "JetImageAutoencoder",
    "ObservableFlow",
    "anomaly_logits",
    "anomaly_score",
    "chamfer_distance",
    "energy_mover_distance",
    "measure_collapse",
]
