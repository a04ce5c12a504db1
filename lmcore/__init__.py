"""The package behind *Large Language Models, from Theory to Practice*.

Everything that the book explains is written here. Import what a chapter names, as in
``from lmcore.classical.kneser_ney import KneserNey``; importing ``lmcore`` itself loads nothing else.
"""

__version__ = "0.1.0"
