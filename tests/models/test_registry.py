"""Building models by name, from the library and from a file of one's own."""

from __future__ import annotations

import pytest
import torch

import pcloud
from pcloud.errors import InputError, UnknownNameError
from pcloud.models import ParticleNet, register_model

PUBLISHED_PARAMETERS = [
    ("particlenet", 7, 2, 366_160),
    ("particlenet", 7, 10, 368_216),
    ("particlenet", 17, 10, 370_156),
    ("particlenet_lite", 7, 2, 26_416),
    ("pfn", 17, 10, 86_154),
]


@pytest.mark.parametrize(("name", "in_features", "num_outputs", "expected"), PUBLISHED_PARAMETERS)
def test_parameters_are_the_published_number(name, in_features, num_outputs, expected):
    model = pcloud.build_model(name, in_features=in_features, num_outputs=num_outputs)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_sizes_of_the_top_landscape_and_of_shapes_are_reached_by_options():
    pfn = pcloud.build_model("pfn", 3, 2, phi_widths=(100, 100, 256), head_widths=(100, 100, 100))
    assert sum(p.numel() for p in pfn.parameters()) == 82_458
    dgcnn = pcloud.build_model("dgcnn", 3, 40)  # 1.81 M on ModelNet40
    assert sum(p.numel() for p in dgcnn.parameters()) == 1_809_576


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'particlenet'"):
        pcloud.build_model("particelnet", in_features=7)
    with pytest.raises(UnknownNameError, match="did you mean 'dropout'"):
        pcloud.build_model("particlenet", in_features=7, droput=0.2)
    with pytest.raises(UnknownNameError, match="did you mean 'identity'"):
        pcloud.build_model("particlenet_lite", in_features=7, coordinates="identy")


def test_values_that_a_model_refuses_are_reported():
    with pytest.raises(InputError, match="'particlenet' cannot be built with"):
        pcloud.build_model("particlenet", in_features=7, dropout=7.0)


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="exists already"):
        register_model("pfn", paper="0000.00000", year=2025, use="nothing")(ParticleNet)


MODEL_FILE = '''
from torch import nn
from pcloud.nn import RaggedLayout, mean_pool

class MyTagger(nn.Module):
    """Mean of the features, then one linear map."""

    def __init__(self, in_features, num_outputs, bias=True):
        super().__init__()
        self.linear = nn.Linear(in_features, num_outputs, bias=bias)

    def forward(self, x, p4, batch, layout=None):
        return self.linear(mean_pool(x, layout or RaggedLayout.from_batch(batch)))
'''


@pytest.mark.parametrize("suffix", ["", ".py"])
def test_a_model_of_ones_own_is_one_file(tmp_path, monkeypatch, suffix):
    (tmp_path / "my_file.py").write_text(MODEL_FILE)
    monkeypatch.chdir(tmp_path)
    model = pcloud.build_model(f"my_file{suffix}:MyTagger", in_features=4, bias=False)
    x, batch = torch.ones(3, 4), torch.tensor([0, 0, 1])
    assert model(x, torch.ones(3, 4), batch).shape == (2, 2)
    with pytest.raises(UnknownNameError, match="did you mean 'MyTagger'"):
        pcloud.build_model(f"my_file{suffix}:MyTager", in_features=4)
    with pytest.raises(UnknownNameError, match="did you mean 'bias'"):
        pcloud.build_model(f"my_file{suffix}:MyTagger", in_features=4, bais=True)


def test_a_file_that_cannot_be_imported_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    with pytest.raises(InputError, match=r"broken\.py failed.*no_such_module"):
        pcloud.build_model("broken:Tagger", in_features=4)
    with pytest.raises(InputError, match=r"no file absent\.py"):
        pcloud.build_model("absent:Tagger", in_features=4)
    with pytest.raises(InputError, match=r"no file sub/absent\.py"):
        pcloud.build_model("sub/absent:Tagger", in_features=4)
