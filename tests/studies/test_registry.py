"""Studies of other packages, registered by entry points."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint

import pytest

import pcloud
from pcloud import plugins
from pcloud.errors import UnknownNameError
from pcloud.plugins import PluginWarning
from pcloud.report import write_report
from pcloud.report.blocks import Section, paragraph
from pcloud.studies import registry
from pcloud.studies.registry import find_study, list_studies


class CountStudy:
    """Number of test jets."""

    @staticmethod
    def run(run, *, factor=1):
        return factor * run.config.batch_size

    @staticmethod
    def section(contents, figures):
        return Section("Count", paragraph(f"batches of {contents.config['batch_size']} jets"))


@pytest.fixture
def entries(monkeypatch):
    """Entry points of an installed package, as names and objects of a module."""

    def install(**studies: str) -> None:
        found = [EntryPoint(name, value, registry.GROUP) for name, value in studies.items()]
        monkeypatch.setattr(plugins, "entry_points", lambda group: found)

    module = types.ModuleType("counting")
    module.study = CountStudy
    monkeypatch.setitem(sys.modules, "counting", module)
    caches = (plugins.load_plugins, registry.further_studies)
    for cache in caches:
        cache.cache_clear()
    yield install
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("undrawn")
def test_an_entry_point_registers_a_study_and_its_section(entries, options):
    entries(count="counting:study")
    assert list_studies()[-1] == "count"
    run = pcloud.train(**options, progress=False)
    assert run.study("count", factor=2) == 128
    assert "<h2>Count</h2>" in write_report(run.path).read_text()
    with pytest.raises(UnknownNameError, match="did you mean 'count'"):
        run.study("cont")


def test_a_study_that_cannot_be_loaded_is_warned_of(entries):
    entries(broken="absent_package:study", evaluate="counting:study", count="counting:study")
    with pytest.warns(PluginWarning) as caught:
        assert list(registry.further_studies()) == ["count"]
    broken, taken = (str(warning.message) for warning in caught)
    assert "'broken'" in broken
    assert "absent_package" in broken
    assert "'evaluate': a study of this name exists" in taken


@pytest.mark.parametrize("name", registry._STUDIES)
def test_every_study_of_ours_is_found_by_name(name):
    assert callable(find_study(name))
