"""Models in fewer bytes: quantisation by rounding, by calibration, by training with rounding, and by cleverer means."""

from lmcore.optional import need

need("torch", group="torch", by="lmcore.compress")
