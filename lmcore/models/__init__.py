"""Whole models: one architecture per file."""

from lmcore.optional import need

need("torch", group="torch", by="lmcore.models")
