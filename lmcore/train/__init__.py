"""Optimizers, schedules, checkpoints and the training loop."""

from lmcore.optional import need

need("torch", group="torch", by="lmcore.train")
