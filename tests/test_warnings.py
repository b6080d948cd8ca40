"""Warnings that are errors in these tests: those of our own code, and not those of others."""

from __future__ import annotations

import warnings

import pytest


@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning, RuntimeWarning])
@pytest.mark.parametrize("module", ["pcloud.io.npz", "tests.test_warnings", "__main__"])
def test_a_warning_of_our_own_code_is_an_error(module: str, category: type[Warning]) -> None:
    with pytest.raises(category, match="old"):
        warnings.warn_explicit("old", category, "file.py", 1, module=module)


def test_a_call_that_is_deprecated_inside_another_package_is_shown() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module="vector.methods")
    assert len(caught) == 1


@pytest.mark.parametrize("category", [ResourceWarning, RuntimeWarning, UserWarning])
def test_other_warnings_are_errors_wherever_they_come_from(category: type[Warning]) -> None:
    with pytest.raises(category, match="new"):
        warnings.warn_explicit("new", category, "file.py", 1, module="torch._dynamo.guards")
