"""Layers of Lorentz-equivariant networks.

:mod:`~pcloud.nn.lorentz.minkowski` contains Minkowski products of pairs, sums of momenta, and the
treatment of masses below the numerical precision. :mod:`~pcloud.nn.lorentz.tokens` makes the tokens
of L-GATr networks, which include reference vectors for the beam axis and for time.
:mod:`~pcloud.nn.lorentz.frames` predicts a frame for each particle and each jet.
"""
