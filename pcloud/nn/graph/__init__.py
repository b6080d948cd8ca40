"""Neighbours and graphs of particles, and convolutions on their edges."""
