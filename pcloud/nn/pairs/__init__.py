"""Layers on all pairs of particles of a jet.

:mod:`~pcloud.nn.pairs.blocks` arranges the pairs in dense blocks, on which the layers of LorentzNet
work: :mod:`~pcloud.nn.pairs.linear` (linear map with batch normalisation),
:mod:`~pcloud.nn.pairs.messages` (gated messages; its kernel is ``messages_kernel``) and
:mod:`~pcloud.nn.pairs.products` (products and sums over pairs). :mod:`~pcloud.nn.pairs.equivariant`
contains the permutation-equivariant linear maps of PELICAN.
"""
