"""Numerical tools of the layers.

:mod:`~pcloud.nn.numerics.derivatives` chooses between plain formula and kernel
(:func:`~pcloud.nn.numerics.derivatives.kernel_allowed`) and provides derivatives of higher order.
The other modules are used by the kernels: chunks of rows (``chunks``), precision under autocast
(``precision``), batch normalisation (``batch_norm``), matrix products on several threads
(``threaded_matmul``), and the counting of operations (``operations``).
"""
