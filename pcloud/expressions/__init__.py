"""Expressions of columns, such as ``log(part_pt / jet_pt)``, in schemas and features.

:mod:`~pcloud.expressions.tree` parses the text to a tree of a fixed vocabulary
(:mod:`~pcloud.expressions.vocabulary`); nothing else of Python is understood, and nothing is
executed. The tree is evaluated by :mod:`~pcloud.expressions.arrays` on awkward arrays, where files
are read, and by :mod:`~pcloud.expressions.tensors` on tensors, where the inputs of a network are
computed and derivatives are needed.
"""

from pcloud.expressions.tree import Expression

__all__ = ["Expression"]
