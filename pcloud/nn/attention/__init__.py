"""Attention among the particles of a jet.

:mod:`~pcloud.nn.attention.attention` contains self-attention and class attention;
:mod:`~pcloud.nn.attention.head_slots` arranges particles and heads in dense blocks for them.
:mod:`~pcloud.nn.attention.pair_bias` computes the bias from features of pairs, by the MLP of
:mod:`~pcloud.nn.attention.pair_mlp`. :mod:`~pcloud.nn.attention.feed_forward` contains the other
part of a transformer block, and :mod:`~pcloud.nn.attention.rms_norm` a normalisation.
:mod:`~pcloud.nn.attention.lgatr_backend` makes the attention available to the networks of `lgatr`.
Modules that end in ``_kernel`` contain the kernels; :mod:`~pcloud.nn.attention.random_mask` draws the
dropout of the one of attention.
"""
