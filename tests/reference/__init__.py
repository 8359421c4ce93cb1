"""The papers' equations in NumPy: what the networks' units have to agree with.

They are written from the papers and not from the package's modules, in explicit loops and without PyTorch, so that no
mistake in a layer, a layout or a broadcast stands on both sides. The equations are numbered as in the papers; where
these leave something open, the readings are those that the package's docstrings tell. Weights are told by the names
that checkpoints have for them.
"""
