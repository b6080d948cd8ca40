"""``pcloud doctor``: what is installed here, for a report of a fault and to find one's own."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires

from pcloud.cli.command import Command, Options
from pcloud.cli.output import print_rows, say

_DISTRIBUTION = "pcloud-hep"
_OTHER_PROJECT = "pcloud"  # a client for cloud storage, with the same import name
_SETTINGS = re.compile("PCLOUD_|OMP_|MKL_|ATEN_|MALLOC_|GLIBC_TUNABLES|CUDA_|PYTORCH_|SLURM_JOB_ID")
_NAME = re.compile(r"[\w.-]+")
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")
_TOOLS = ("dev", "docs")  # extras of those who work on the library itself


class SameNameWarning(UserWarning):
    """Warning that two projects with the import name ``pcloud`` are installed."""


def execute(options: Options) -> None:
    """Print versions, devices, optional packages and settings, and warn of what does not fit."""
    print_rows([[name, value] for name, value in _machine()])
    print_rows([["package", "version", "extra"], *_packages()])
    settings = sorted(name for name in os.environ if _SETTINGS.match(name))
    for name in settings:
        say(f"{name}={os.environ[name]}")
    if _version(_OTHER_PROJECT) is not None:
        warnings.warn(
            "the package 'pcloud', a client for cloud storage, has the same import name: "
            f"pip uninstall pcloud, then install {_DISTRIBUTION} again",
            SameNameWarning,
            stacklevel=2,
        )


def _machine() -> Iterator[tuple[str, str]]:
    """Names and values of what a report of a fault has to say."""
    import torch

    from pcloud.memory import free_memory
    from pcloud.training.environment import describe_environment

    about = describe_environment(seed=0)
    free = free_memory()
    yield "pcloud", about["pcloud"] + (f" ({about['commit']})" if about["commit"] else "")
    yield "Python", about["python"]
    yield "system", about["platform"]
    yield "processor", f"{about['cpu']}, {about['cpus']} threads"
    yield "instructions", torch.backends.cpu.get_cpu_capability()
    yield "threads of torch", str(torch.get_num_threads())
    yield "matrix products", ", ".join(_libraries())
    yield "free memory", "unknown" if free is None else f"{free / 1e9:.1f} GB"
    yield "devices", ", ".join(["cpu", *_accelerators()])


def _libraries() -> Iterator[str]:
    """Libraries that torch multiplies matrices with."""
    from torch import backends

    for name, module in (("MKL", backends.mkl), ("oneDNN", backends.mkldnn)):
        if module.is_available():
            yield name


def _accelerators() -> Iterator[str]:
    import torch

    for i in range(torch.cuda.device_count()):
        size = torch.cuda.get_device_properties(i).total_memory
        yield f"cuda:{i} ({torch.cuda.get_device_name(i)}, {size / 1e9:.0f} GB)"
    if torch.backends.mps.is_available():
        yield "mps"


def _packages() -> list[list[str]]:
    """Rows with the name, the version and the extra of every package that is asked for."""
    return [[name, _version(name) or "not installed", extra] for name, extra in _asked_for()]


def _asked_for() -> Iterator[tuple[str, str]]:
    """Packages that the library depends on, and the extras that ask for the others."""
    for line in requires(_DISTRIBUTION) or ():
        requirement, _, marker = line.partition(";")
        found, extra = _NAME.match(requirement), _EXTRA.search(marker)
        if found and found[0] != _DISTRIBUTION and (extra is None or extra[1] not in _TOOLS):
            yield found[0], extra[1] if extra else ""


def _version(package: str) -> str | None:
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return None
    if package == "torch":
        import torch

        return str(torch.__version__)  # with the build, which the metadata lack
    return found.version


COMMAND = Command("doctor", "Show versions, devices, optional packages and settings.", execute)
