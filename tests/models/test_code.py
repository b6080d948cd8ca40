"""Code of a model in a file: the files that belong to it, and their execution."""

from __future__ import annotations

import importlib
import os
import py_compile
import sys

import pytest

import pcloud
from pcloud.errors import InputError
from pcloud.models.trust import codes_used, remember_codes, state_folder, stored_names, trusting

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self, in_features, num_outputs=2, width=LAYERS.WIDTH):
        super().__init__()
        self.width = width
        self.linear = torch.nn.Linear(in_features, num_outputs)

    def forward(self, x, p4, batch):
        return torch.zeros(int(batch.max()) + 1, 2).index_add(0, batch, self.linear(x))
"""
ALONE = NET.replace("LAYERS.WIDTH", "3")
BESIDE = "import layers_beside as layers\n" + NET.replace("LAYERS", "layers")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Empty current folder, which is not on the search path of modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PCLOUD_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("pcloud.models.trust._KNOWN", {})
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", ".")])
    yield tmp_path
    for name in list(sys.modules):
        if name.partition(".")[0] in ("layers_beside", "package_beside", "dotted_beside"):
            del sys.modules[name]


def build(name="net.py:Net"):
    return pcloud.build_model(name, 3)


def build_stored(name="net.py:Net"):
    """Build a model whose name is that of a file."""
    with stored_names("sent"):
        return build(name)


def train_with(name="net.py:Net"):
    """What training does with the code of a model."""
    with codes_used() as codes:
        build(name)
    remember_codes(codes)


def refused(name="net.py:Net"):
    with pytest.raises(InputError, match="--trust-code") as caught:
        build_stored(name)
    assert "\n" not in str(caught.value)
    return True


def test_code_named_by_a_file_does_not_run_unless_it_is_allowed(folder):
    (folder / "net.py").write_text(ALONE + "open('ran', 'w').close()\n")
    assert refused()
    assert not (folder / "ran").exists()
    with trusting(True):
        build_stored()
    assert (folder / "ran").exists()
    assert refused(), "allowed once is not allowed for ever"


def test_code_of_a_training_is_known_until_it_changes(folder):
    (folder / "net.py").write_text(ALONE)
    train_with()
    build_stored()
    (folder / "copied").mkdir()
    (folder / "copied/other_name.py").write_text(ALONE)
    build_stored("copied/other_name:Net")
    (folder / "link.py").symlink_to(folder / "net.py")
    build_stored("link.py:Net")
    (folder / "net.py").write_text(ALONE + "\n# changed\n")
    assert refused()
    (folder / "net.py").write_text(ALONE)
    build_stored()


def test_another_object_of_known_code_is_not_known(folder):
    (folder / "net.py").write_text("from os import kill\n" + ALONE)
    train_with()
    assert refused("net.py:kill")


LAYERS, DEEP = "layers_beside.py", "package_beside/inner/deep.py"
IMPORTS = {
    "import": ("import layers_beside as layers", LAYERS),
    "from": ("from layers_beside import WIDTH as w\nclass layers: WIDTH = w", LAYERS),
    "in a function": (
        "def f():\n    import layers_beside\n    return layers_beside\nlayers = f()",
        LAYERS,
    ),
    "by a name": (
        "import importlib\nlayers = importlib.import_module('layers_' + 'beside')",
        LAYERS,
    ),
    "by __import__": ("layers = __import__('layers_' + 'beside')", LAYERS),
    "after a change of the path": (
        "import sys\nsys.path.insert(0, __file__[:-6] + 'lib')\nimport layers_beside as layers",
        "lib/layers_beside.py",
    ),
    "package": ("from package_beside import layers", DEEP),
    "deep": ("import package_beside.inner.deep as layers", DEEP),
    "star": ("from package_beside.stars import *", "package_beside/stars/layers.py"),
}


@pytest.mark.parametrize("how", IMPORTS)
def test_a_changed_module_beside_is_noticed(folder, how):
    statement, beside = IMPORTS[how]
    texts = {
        "net.py": statement + "\n" + NET.replace("LAYERS", "layers"),
        "package_beside/__init__.py": "",
        "package_beside/layers.py": "from .inner.deep import WIDTH\n",
        "package_beside/stars/__init__.py": "__all__ = ['layers']\n",
        beside: "WIDTH = 4\n",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    train_with()
    assert build_stored().width == 4
    (folder / beside).write_text("WIDTH = 5\nopen('ran', 'w').close()\n")
    assert refused()
    assert not (folder / "ran").exists()
    with trusting(True):
        assert build_stored().width == 5
    (folder / beside).write_text("WIDTH = 4\n")
    assert build_stored().width == 4


def test_a_module_that_is_imported_only_when_the_model_is_used_belongs_to_it(folder):
    (folder / "elsewhere").mkdir()
    (folder / "model").mkdir()
    (folder / "elsewhere/layers_beside.py").write_text("WIDTH = 4\n")
    late = "    def late(self):\n        import sys\n        sys.path.append('elsewhere')\n"
    late += "        import layers_beside\n        return layers_beside.WIDTH\n"
    (folder / "model/net.py").write_text(ALONE + "\n" + late)
    name = "model/net.py:Net"
    with codes_used() as codes:
        model = build(name)
    remember_codes(codes)
    assert model.late() == 4
    remember_codes(codes)  # at the end of the training
    registry = importlib.import_module("pcloud.models.registry")
    registry._FROM_FILES.clear()
    del sys.modules["layers_beside"]
    model = build_stored(name)
    (folder / "elsewhere/layers_beside.py").write_text("WIDTH = 5\n")
    with pytest.raises(InputError, match="no part of the code"):
        model.late()


def test_compiled_code_of_a_stranger_is_not_executed(folder):
    """Python takes a file in ``__pycache__`` whose header names size and time of the source."""
    for name, text in {"net.py": BESIDE, "layers_beside.py": "WIDTH = 4\n"}.items():
        (folder / name).write_text(text)
    train_with()
    for name in ("net.py", "layers_beside.py"):
        path = folder / name
        own = path.read_text()
        evil = "open('ran', 'w').close()\nWIDTH = 5\n".ljust(len(own), "#")
        own = own.ljust(len(evil), "#")
        path.write_text(evil)
        os.utime(path, (10**9, 10**9))
        py_compile.compile(str(path))
        path.write_text(own)
        os.utime(path, (10**9, 10**9))
    train_with()
    build_stored()
    assert not (folder / "ran").exists()


def test_a_compiled_module_in_the_place_of_a_known_one_is_noticed(folder):
    (folder / "net.py").write_text(BESIDE)
    (folder / "layers_beside.py").write_text("WIDTH = 4\n")
    train_with()
    (folder / f"layers_beside{importlib.machinery.EXTENSION_SUFFIXES[0]}").write_bytes(b"evil")
    assert refused()


def test_the_bytes_that_were_hashed_are_executed(folder, monkeypatch):
    (folder / "net.py").write_text(BESIDE)
    (folder / "layers_beside.py").write_text("WIDTH = 4\n")
    train_with()
    for name in [n for n in sys.modules if n.startswith(("net_", "layers_beside"))]:
        del sys.modules[name]
    registry = importlib.import_module("pcloud.models.registry")
    registry._FROM_FILES.clear()
    run = registry.run_code

    def replaced(*arguments):
        for name in ("net.py", "layers_beside.py"):
            (folder / name).write_text("open('ran', 'w').close()\n")
        return run(*arguments)

    monkeypatch.setattr(registry, "run_code", replaced)
    with stored_names("sent"):
        registry.model_factory("net.py:Net")
    assert not (folder / "ran").exists()


def test_a_dotted_module_and_its_packages_do_not_run_either(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    (folder / "dotted_beside").mkdir()
    (folder / "dotted_beside/__init__.py").write_text("open('ran', 'w').close()\n")
    (folder / "dotted_beside/payload.py").write_text("from .layers import WIDTH\n" + ALONE)
    (folder / "dotted_beside/layers.py").write_text("WIDTH = 4\n")
    name = "dotted_beside.payload:Net"
    assert refused(name)
    assert not (folder / "ran").exists()
    train_with(name)
    assert (folder / "ran").exists()
    build_stored(name)
    for changed in ("__init__", "payload", "layers"):
        path = folder / f"dotted_beside/{changed}.py"
        before = path.read_text()
        path.write_text(before + "# changed\n")
        assert refused(name)
        path.write_text(before)
    build_stored(name)


@pytest.mark.parametrize("name", ["signal:raise_signal", "torch.nn:Linear", "subprocess:Popen"])
def test_installed_modules_are_not_free_to_choose_from(name):
    assert refused(name)


def test_code_inside_an_option_is_code_of_the_file_too(folder):
    (folder / "net.py").write_text(ALONE)
    with stored_names("sent"), pytest.raises(InputError, match="--trust-code"):
        pcloud.build_model("pixel_cloud", 3, network="net.py:Net")


def test_two_models_with_modules_of_one_name_get_their_own(folder):
    for place, width in (("a", 4), ("b", 5)):
        (folder / place).mkdir()
        (folder / place / "net.py").write_text(BESIDE)
        (folder / place / "layers_beside.py").write_text(f"WIDTH = {width}\n")
    assert build("a/net.py:Net").width == 4
    assert build("b/net.py:Net").width == 5


def test_a_folder_that_cannot_be_written_is_warned_of(folder, monkeypatch):
    (folder / "net.py").write_text(ALONE)
    (folder / "file").write_text("")
    monkeypatch.setenv("PCLOUD_STATE", str(folder / "file/state"))
    with pytest.warns(UserWarning, match=r"cannot be remembered.*PCLOUD_STATE"):
        train_with()
    build_stored()  # known in this process


def test_the_folder_of_the_state_is_the_standard_one(monkeypatch, tmp_path):
    monkeypatch.delenv("PCLOUD_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "pcloud"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder() == tmp_path / ".local/state/pcloud"
