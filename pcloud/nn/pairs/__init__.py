"""Layers on all pairs of particles of a jet, by blocks of jets of equal length."""
