"""Jets and images for anomaly detectors, which learn one class."""

from __future__ import annotations

from pcloud.clouds import Clouds
from pcloud.images.modality import Images
from pcloud.modality import register_modality

__all__ = ["AnomalousClouds", "AnomalousImages"]


class AnomalousClouds(Clouds):
    """Jets for networks that are trained by the objective ``anomaly``."""

    kind = "anomalous_cloud"
    first_argument = "anomalous_cloud"  # no class of a file is taken for a detector
    detects_anomalies = True


class AnomalousImages(Images):
    """Images for networks that are trained by the objective ``anomaly``."""

    kind = "anomalous_image"
    first_argument = "anomalous_image"
    detects_anomalies = True


register_modality(AnomalousClouds())
register_modality(AnomalousImages())
