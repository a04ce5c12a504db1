import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.text.characters import CharacterTokenizer
from lmcore.text.vocab import Vocabulary
from lmcore.text.words import WordTokenizer, join_words, split_words


def test_words_by_hand():
    assert split_words("God's son-in-law paid 10,000.50 (in 1999), didn't he?") == [
        "God's", "son-in-law", "paid", "10,000.50", "(", "in", "1999", ")", ",", "didn't", "he", "?",
    ]  # fmt: skip
    assert split_words("Zürich 漢字 naïve") == ["Zürich", "漢字", "naïve"]
    assert split_words("'tis -- 5%") == ["'", "tis", "-", "-", "5", "%"]
    assert join_words(["He", "paid", "(", "5", "%", ")", ",", "she", "said", ":", "“", "No", "!", "”"]) == (
        "He paid (5%), she said: “No!”"
    )


@given(st.text())
def test_words_lose_white_space_only(text):
    assert "".join(split_words(text)) == "".join(text.split())


@given(st.lists(st.from_regex(r"[a-zé]+|[0-9]+|[.,;:!?()]", fullmatch=True)))
def test_joined_words_split_again(words):
    text = join_words(words)
    assert "".join(split_words(text)) == "".join(words)


@given(st.text(), st.text())
def test_characters_come_back_exactly(text, other):
    tokenizer = CharacterTokenizer().fit([text, other])
    assert tokenizer.decode(tokenizer.encode(text, bos=True, eos=True)) == text
    assert len(tokenizer.encode(text)) == len(text)


def test_word_tokenizer_end_to_end():
    tokenizer = WordTokenizer(lowercase=True).fit(["The cat sat.", "the dog"], min_count=1)
    assert tokenizer.decode(tokenizer.encode("The dog sat.")) == "the dog sat."
    assert tokenizer.encode("the", bos=True, eos=True) == [2, 4, 3]
    assert tokenizer.decode(tokenizer.encode("the bird")) == "the <unk>"


def test_special_tokens_cannot_be_forged():
    class Spaces(WordTokenizer):
        def split(self, text):
            return text.split()

    tokenizer = Spaces().fit(["a b"])
    assert tokenizer.encode("a </s> <pad> b") == [4, 1, 1, 5]


@pytest.mark.parametrize("kind", [CharacterTokenizer, WordTokenizer])
def test_errors(kind):
    with pytest.raises(ValueError, match=rf"this {kind.__name__} has no vocabulary yet: call fit"):
        kind().encode("x")
    with pytest.raises(TypeError, match=r"texts is one string; pass a list of texts"):
        kind().fit("one string")


def test_a_given_vocabulary_is_used():
    assert CharacterTokenizer(Vocabulary(["x"])).encode("xy") == [4, 1]
    assert WordTokenizer(vocabulary=Vocabulary(["x"])).encode("x y") == [4, 1]
