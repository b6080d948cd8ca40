"""Published taggers, one architecture per file, all with one contract.

``model(x, p4, batch) -> logits (B, C)``: flat tensors in, one row per jet out.
"""

from pcloud.models.deepjet import DeepJet
from pcloud.models.dgcnn import DGCNN
from pcloud.models.efn import EFN
from pcloud.models.gn2 import GN2
from pcloud.models.high_level import HighLevelTagger, hl_logistic, one_cut
from pcloud.models.lgatr import LGATr
from pcloud.models.lgatr_slim import LGATrSlim
from pcloud.models.lloca import LLoCa
from pcloud.models.lorentznet import LorentzNet
from pcloud.models.official import load_official
from pcloud.models.one_jet import OneJet
from pcloud.models.part import ParticleTransformer, transformer
from pcloud.models.particlenet import ParticleNet, particlenet_lite
from pcloud.models.particlenet_collections import CollectionParticleNet
from pcloud.models.pcnn import PCNN
from pcloud.models.pelican import PELICAN
from pcloud.models.pfn import PFN
from pcloud.models.recnn import RecNN
from pcloud.models.recurrent import RecurrentTagger
from pcloud.models.registry import (
    ModelInfo,
    build_model,
    list_models,
    model_info,
    register_model,
)

__all__ = [
    "DGCNN",
    "EFN",
    "GN2",
    "PCNN",
    "PELICAN",
    "PFN",
    "CollectionParticleNet",
    "DeepJet",
    "HighLevelTagger",
    "LGATr",
    "LGATrSlim",
    "LLoCa",
    "LorentzNet",
    "ModelInfo",
    "OneJet",
    "ParticleNet",
    "ParticleTransformer",
    "RecNN",
    "RecurrentTagger",
    "build_model",
    "hl_logistic",
    "list_models",
    "load_official",
    "model_info",
    "one_cut",
    "particlenet_lite",
    "register_model",
    "transformer",
]
