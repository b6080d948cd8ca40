"""Recipes: optimizer, schedule, batch size and length of published trainings, by name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from pcloud.errors import UnknownNameError

__all__ = ["RECIPES", "Recipe", "default_recipe", "get_recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Optimizer, schedule, batch size, length and precision of a training.

    Examples
    --------
    >>> Recipe(optimizer="adamw", schedule="constant", lr=1e-3, batch_size=64, epochs=2).precision
    'float32'
    """

    optimizer: str
    """Name of the optimizer, see `pcloud.training.optimizers`."""
    schedule: str
    """Name of the learning-rate schedule, see `pcloud.training.schedules`."""
    lr: float
    """Peak learning rate."""
    weight_decay: float = 0.0
    """Weight decay, not applied to biases, normalisations and class tokens."""
    batch_size: int | Literal["full"]
    """Number of jets per batch, or ``"full"`` for all of them."""
    epochs: int
    """Number of passes over the training jets; not used when `steps` is given."""
    steps: int = 0
    """Number of optimizer steps, instead of epochs; 0 where the length is given in epochs."""
    gradient_clip: float = 0.0
    """Maximum norm of the gradient; 0 for no clipping."""
    lr_head_factor: float = 1.0
    """Factor on the learning rate of the head, the last linear map."""
    precision: str = "float32"
    """Floating-point type of the network: ``"float32"``, or ``"bfloat16"`` for autocast."""
    source: str = ""
    """Reference."""
    model: str | None = None
    """Network of a recipe that is more than an optimization."""
    objective: tuple[str, ...] = ()
    """What it learns, see `pcloud.objectives.specification`."""
    objective_weights: tuple[float, ...] = ()
    """Weights of its objectives."""

    @classmethod
    def optimization(cls) -> list[str]:
        """Names of the options of the optimization."""
        others = ("source", "model", "objective", "objective_weights")
        return [field.name for field in fields(cls) if field.name not in others]

    @property
    def further(self) -> dict[str, Any]:
        """Options that are not those of the optimization, by name."""
        found: dict[str, Any] = {"model": self.model, "objective": list(self.objective)}
        found["objective_weights"] = list(self.objective_weights)
        return {name: value for name, value in found.items() if value}

    def events_per_batch(self, number: int) -> int:
        """Number of jets per batch, of `number` training jets."""
        return number if self.batch_size == "full" else self.batch_size


RECIPES: dict[str, Recipe] = {
    "particlenet": Recipe(
        optimizer="ranger",
        schedule="flat_decay",
        lr=1e-2,
        batch_size=512,
        epochs=20,
        source="arXiv:2202.03772",
    ),
    "particlenet_original": Recipe(
        optimizer="adamw",
        schedule="one_cycle",
        lr=3e-3,
        weight_decay=1e-4,
        batch_size=384,
        epochs=20,
        source="arXiv:1902.08570",
    ),
    "particlenet_lite_original": Recipe(
        optimizer="adamw",
        schedule="one_cycle",
        lr=5e-3,
        weight_decay=1e-4,
        batch_size=1024,
        epochs=20,
        source="arXiv:1902.08570",
    ),
    "part": Recipe(
        optimizer="ranger",
        schedule="flat_decay",
        lr=1e-3,
        weight_decay=0.01,
        batch_size=512,
        epochs=20,
        precision="bfloat16",
        source="arXiv:2202.03772",
    ),
    "particlenet_finetune": Recipe(
        optimizer="ranger",
        schedule="constant",
        lr=1e-3,
        batch_size=512,
        epochs=20,
        lr_head_factor=50.0,
        source="arXiv:2202.03772",
    ),
    "part_finetune": Recipe(
        optimizer="ranger",
        schedule="constant",
        lr=1e-4,
        weight_decay=0.01,
        batch_size=512,
        epochs=20,
        precision="bfloat16",
        lr_head_factor=50.0,
        source="arXiv:2202.03772",
    ),
    "pfn": Recipe(
        optimizer="ranger",
        schedule="flat_decay",
        lr=2e-2,
        batch_size=4096,
        epochs=20,
        source="arXiv:2202.03772",
    ),
    "lorentznet": Recipe(
        optimizer="adamw",
        schedule="restarts",
        lr=1e-3,
        weight_decay=0.01,
        batch_size=128,
        epochs=35,
        source="arXiv:2201.08187",
    ),
    "image": Recipe(
        optimizer="adamw",
        schedule="cosine",
        lr=2e-3,
        weight_decay=0.01,
        batch_size=64,
        epochs=30,
        source="none: ours, for the images of benchmarks/galaxies.py",
    ),
    "table": Recipe(
        optimizer="adamw",
        schedule="cosine",
        lr=2e-3,
        weight_decay=1e-4,
        batch_size=128,
        epochs=30,
        source="none: ours, for tables of some thousand to a million events",
    ),
    "series": Recipe(
        optimizer="adamw",
        schedule="cosine",
        lr=1e-3,
        weight_decay=1e-4,
        batch_size=64,
        epochs=20,
        source="none: ours, for the pulses of pcloud.series.pulses",
    ),
    "anomaly": Recipe(
        optimizer="adamw",
        schedule="cosine",
        lr=2e-3,
        batch_size=256,
        epochs=30,
        gradient_clip=1.0,
        source="none: ours, for the QCD jets of the embedded sample",
    ),
    "flow_matching": Recipe(
        optimizer="adamw",
        schedule="cosine",
        lr=1e-3,
        batch_size=64,
        epochs=24,
        gradient_clip=1.0,
        source="none: ours, for the embedded sample",
    ),
    "lgatr": Recipe(
        optimizer="lion",
        schedule="cosine",
        lr=3e-4,
        weight_decay=0.2,
        batch_size=128,
        epochs=0,
        steps=200_000,
        gradient_clip=5.0,
        source="arXiv:2411.00446",
    ),
    "lgatr_slim": Recipe(
        optimizer="lion",
        schedule="cosine",
        lr=3e-5,
        weight_decay=2.0,
        batch_size=128,
        epochs=0,
        steps=200_000,
        source="arXiv:2512.17011",
    ),
    "cms_ak4": Recipe(
        model="particlenet_collections",
        objective=("class", "pt:quantile:0.16,0.5,0.84"),
        optimizer="ranger",
        schedule="flat_decay",
        lr=5e-3,
        batch_size=512,
        epochs=20,
        source="CMS's ParticleNet of small-radius jets, with the optimizer of weaver",
    ),
    "gn2": Recipe(
        model="gn2",
        objective=("class", "origin:classes", "vertex:pairs"),
        objective_weights=(1.0, 0.5, 1.5),
        optimizer="adamw",
        schedule="cosine",
        lr=5e-4,
        weight_decay=1e-5,
        batch_size=1000,
        epochs=40,
        source="arXiv:2505.19689; learning rate and weights of salt's GN2.yaml",
    ),
    "pelican": Recipe(
        optimizer="adamw",
        schedule="restarts",
        lr=2.5e-3,
        weight_decay=0.005,
        batch_size=100,
        epochs=35,
        source="arXiv:2307.16506",
    ),
}
"""The recipes by name. Override the length or the batch size on data sets of another size."""

_BY_MODEL = {
    **dict.fromkeys(
        ("cnn", "group_cnn", "z2cnn", "p4cnn", "resnet34", "group_resnet34", "rotated"), "image"
    ),
    **dict.fromkeys(("mlp", "logistic"), "table"),
    **dict.fromkeys(("series_dense", "series_cnn", "series_lstm"), "series"),
    **dict.fromkeys(
        ("image_autoencoder", "jet_image_autoencoder", "cloud_autoencoder", "observable_flow"),
        "anomaly",
    ),
    "dgcnn": "particlenet",
    "efn": "pfn",
    "particlenet": "particlenet",
    "particlenet_lite": "particlenet",
    "pcnn": "pfn",
    **dict.fromkeys(("rnn", "gru", "lstm", "deepjet"), "particlenet_lite_original"),
    "pfn": "pfn",
    "transformer": "part",
}


def default_recipe(model: str, *, pretrained: bool = False) -> str:
    """Name of the default recipe of a model.

    A model without a recipe of its own, such as a user's, has ``"particlenet"``. A model that is
    initialised from trained weights has the recipe for fine-tuning, where there is one.

    Parameters
    ----------
    model : str
        Name of the model.
    pretrained : bool
        Whether it is initialised from trained weights.
    """
    name = _BY_MODEL.get(model, model if model in RECIPES else "particlenet")
    fine_tuning = f"{name}_finetune"
    return fine_tuning if pretrained and fine_tuning in RECIPES else name


def get_recipe(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    return RECIPES[name]
