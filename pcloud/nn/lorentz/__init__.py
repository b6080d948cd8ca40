"""Layers on Minkowski products and spacetime tokens."""
