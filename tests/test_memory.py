"""Freed memory stays in the process, seen in what the kernel counts."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy as np
from pcloud.memory import keep_memory

if sys.argv[1] == "keep":
    assert keep_memory()
for step in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(10_000_000) for _ in range(3)]  # 80 MB each
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(what, **environment):
    command = [sys.executable, "-c", _FAULTS, what]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")
def test_kept_memory_is_not_mapped_again():
    assert faults("return") > 1000
    assert faults("keep") < 100


def test_parameters_of_the_environment_are_left_alone(monkeypatch):
    from pcloud.memory import keep_memory

    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_memory()


def test_other_systems_are_left_alone(monkeypatch):
    from pcloud.memory import keep_memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_memory()
