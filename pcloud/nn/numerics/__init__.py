"""Kernels and derivatives behind the layers: memory, precision, operations."""
