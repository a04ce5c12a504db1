"""Pieces of neural networks on PyTorch tensors: functions, layers, and an autograd engine to read."""

from lmcore.optional import need

need("torch", group="torch", by="lmcore.nn")
