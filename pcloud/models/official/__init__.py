"""Official weights: state dicts of the authors' codes, one reader per code."""

from pcloud.models.official.load import load_official

__all__ = ["load_official"]
