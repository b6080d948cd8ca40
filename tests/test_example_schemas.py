"""The schemas of examples/schemas, which docs/schemas.md shows."""

from __future__ import annotations

import pytest

from pcloud.yaml_files import read_yaml
from tests.conftest import REPOSITORY

SCHEMAS = sorted((REPOSITORY / "examples" / "schemas").glob("*.yaml"))


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_a_schema_is_short_and_shown_in_the_documentation(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# (")
    assert len(lines) < 25
    shown = (REPOSITORY / "docs" / "schemas.md").read_text(encoding="utf-8")
    assert "\n".join(["```yaml", *lines[1:], "```"]) in shown
    assert "p4" in read_yaml(path)


def test_the_lines_of_configuration_are_counted():
    shown = (REPOSITORY / "docs" / "schemas.md").read_text(encoding="utf-8")
    for name, row in (("weaver", "| (a) weaver"), ("ftag", "| (d) flavour")):
        lines = (REPOSITORY / "examples" / "schemas" / f"{name}.yaml").read_text(encoding="utf-8")
        number = sum(not line.startswith("#") for line in lines.splitlines())
        (line,) = [line for line in shown.splitlines() if line.startswith(row)]
        assert line.split("|")[2].strip() == str(number)
