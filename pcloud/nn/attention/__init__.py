"""Attention between the particles of a jet, with biases by pair features."""
