"""Neighbour graphs and convolutions on them.

:mod:`~pcloud.nn.graph.knn` searches the nearest neighbours of each particle in the coordinates of
:mod:`~pcloud.nn.graph.coordinates`; :mod:`~pcloud.nn.graph.distances` defines the order of
neighbours. :mod:`~pcloud.nn.graph.edge_conv` contains the EdgeConv layers of DGCNN and ParticleNet.
The modules ``knn_by_sorting`` and ``edge_conv_kernel`` contain their kernels.
"""
