"""The small jets and trainings of the tests of training."""

from tests.training.conftest import jet_file, one_thread, options

__all__ = ["jet_file", "one_thread", "options"]
