"""Official weights: state dicts of other codes, brought into our models; one reader per code."""

from pcloud.models.official.load import load_official

__all__ = ["load_official"]
