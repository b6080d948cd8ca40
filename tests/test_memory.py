"""Freed memory stays in the process, seen in what the kernel counts."""

from __future__ import annotations

import platform
import resource
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


@pytest.mark.skipif(sys.platform != "linux", reason="reads files of Linux")
@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("0::/", {}, 8_000_000 * 1024),
        ("0::/a/b", {"a/memory.max": "3000", "a/memory.current": "1000"}, 2000),
        ("0::/a/b", {"a/memory.max": "max", "a/memory.current": "1000"}, 8_000_000 * 1024),
        ("0::/a", {"a/memory.max": "1000", "a/memory.current": "3000"}, 0),
        (
            "0::/a",
            {
                "a/memory.max": "3000",
                "a/memory.current": "1000",
                "a/memory.stat": "anon 100\ninactive_file 500\n",
            },
            2500,
        ),
        (
            "5:cpu:/x\n4:memory:/job",
            {
                "memory/job/memory.limit_in_bytes": "3000",
                "memory/job/memory.usage_in_bytes": "1000",
                "memory/memory.limit_in_bytes": "2500",
                "memory/memory.usage_in_bytes": "1000",
            },
            1500,
        ),
    ],
)
def test_free_memory_is_the_least_that_a_limit_leaves(monkeypatch, tmp_path, groups, files, free):
    from pcloud import memory

    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\n")
    (tmp_path / "cgroup").write_text(groups + "\n")
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP_OF_PROCESS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "fs")
    unlimited = (resource.RLIM_INFINITY,) * 2
    monkeypatch.setattr(resource, "getrlimit", lambda kind: unlimited)
    assert memory.free_memory() == free


@pytest.mark.skipif(sys.platform != "linux", reason="reads files of Linux")
def test_free_memory_knows_the_limit_of_the_address_space(monkeypatch):
    from pcloud import memory

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (0, 0))
    assert memory.free_memory() == 0


def test_free_memory_of_other_systems_is_not_known(monkeypatch):
    from pcloud import memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.free_memory() is None
    memory.check_memory(1e18, "many jets")
