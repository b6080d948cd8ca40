"""Objectives of a network, and the predictions that its outputs are.

An objective is a module that turns the outputs of a network into a prediction, a small value with a
loss, a mean and intervals. Everything after the network asks the prediction.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Anomaly": "anomaly",
    "Bernoulli": "predictions",
    "Categorical": "predictions",
    "Classes": "classes",
    "Gaussian": "gaussian",
    "Generation": "generation",
    "Label": "label",
    "MaskedParticles": "masked",
    "Normal": "predictions",
    "JetObjective": "objective",
    "Objective": "objective",
    "OfParticles": "of_particles",
    "PairBernoulli": "particle_predictions",
    "Pairs": "pairs",
    "ParticleCategorical": "particle_predictions",
    "ParticleClasses": "particle_classes",
    "Point": "predictions",
    "PointEstimate": "point",
    "Prediction": "predictions",
    "QuantileEstimate": "quantiles",
    "Quantiles": "predictions",
    "Several": "several",
    "Specification": "specification",
    "Target": "target",
    "make_objective": "build",
    "objective_from_dict": "build",
}

__all__ = [
    "Anomaly",
    "Bernoulli",
    "Categorical",
    "Classes",
    "Gaussian",
    "Generation",
    "JetObjective",
    "Label",
    "MaskedParticles",
    "Normal",
    "Objective",
    "OfParticles",
    "PairBernoulli",
    "Pairs",
    "ParticleCategorical",
    "ParticleClasses",
    "Point",
    "PointEstimate",
    "Prediction",
    "QuantileEstimate",
    "Quantiles",
    "Several",
    "Specification",
    "Target",
    "make_objective",
    "objective_from_dict",
]

if TYPE_CHECKING:
    from pcloud.objectives.anomaly import Anomaly
    from pcloud.objectives.build import make_objective, objective_from_dict
    from pcloud.objectives.classes import Classes
    from pcloud.objectives.gaussian import Gaussian
    from pcloud.objectives.generation import Generation
    from pcloud.objectives.label import Label
    from pcloud.objectives.masked import MaskedParticles
    from pcloud.objectives.objective import JetObjective, Objective
    from pcloud.objectives.of_particles import OfParticles
    from pcloud.objectives.pairs import Pairs
    from pcloud.objectives.particle_classes import ParticleClasses
    from pcloud.objectives.particle_predictions import PairBernoulli, ParticleCategorical
    from pcloud.objectives.point import PointEstimate
    from pcloud.objectives.predictions import (
        Bernoulli,
        Categorical,
        Normal,
        Point,
        Prediction,
        Quantiles,
    )
    from pcloud.objectives.quantiles import QuantileEstimate
    from pcloud.objectives.several import Several
    from pcloud.objectives.specification import Specification
    from pcloud.objectives.target import Target


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pcloud.objectives' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pcloud.objectives.{_HOME[name]}"), name)
