import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore import data
from lmcore.text.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        (
            "Mr. A. B. Smith lives in the U.S. He is 3.5 m tall.",
            ["Mr. A. B. Smith lives in the U.S. He is 3.5 m tall."],
        ),
        ("He said “Go.” Then he went.", ["He said “Go.”", "Then he went."]),
        ("See e.g. Figure 3. It shows it.", ["See e.g. Figure 3.", "It shows it."]),
        ("It was I. You were late.", ["It was I.", "You were late."]),
        ("A title\n\nA sentence. another half", ["A title", "A sentence. another half"]),
        ("", []),
        ("  \n\n ", []),
    ],
)
def test_by_hand(text, expected):
    assert split_sentences(text) == expected


@given(st.text(alphabet="aB.!? \n\"'”)1", max_size=60))
def test_nothing_is_lost(text):
    found = split_sentences(text)
    assert re.sub(r"\s", "", "".join(found)) == re.sub(r"\s", "", text)
    assert all(sentence == sentence.strip() != "" for sentence in found)


def test_good_enough_for_the_encyclopedia():
    """Hardly a sentence begins in lower case, none ends with an abbreviation, and lengths are those of prose."""
    sentences = [s for article in data.load("encyclopedia")[:20] for s in split_sentences(article.text)]
    assert len(sentences) > 2000
    words = [len(s.split()) for s in sentences]
    assert 12 < sum(words) / len(words) < 35
    assert sum(s[0].islower() for s in sentences) / len(sentences) < 0.02
    assert not any(s.endswith((" Mr.", " Dr.", " e.g.", " i.e.", " vs.")) for s in sentences)
