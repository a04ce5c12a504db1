"""Several processes at work on one model: launching them, collectives, cost models, and the ways to split a model."""

from lmcore.optional import need

need("torch", group="torch", by="lmcore.parallel")
need("cloudpickle", group="parallel", by="lmcore.parallel")
