"""The help pages of this Python, as `help("lambda")` shows them: English prose that needs no download."""

from .cards import Card
from .corpus import Corpus, Topic


def read(card: Card) -> Corpus:
    """The corpus, sorted by title."""
    from pydoc_data.topics import topics

    return Corpus(card, [Topic(title, text.strip()) for title, text in sorted(topics.items())])
