"""The package behind *Large Language Models, from Theory to Practice*.

Everything the book explains is written here; import what a chapter names, e.g. ``from lmcore.classical.ngram import KneserNey``.
Importing ``lmcore`` itself loads nothing else.
"""

__version__ = "0.1.0"
