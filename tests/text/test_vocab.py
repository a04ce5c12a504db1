import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.text.vocab import BOS, SPECIALS, UNK, Vocabulary


def test_by_hand():
    vocabulary = Vocabulary.from_tokens("to be or not to be to".split(), min_count=1)
    assert list(vocabulary) == [*SPECIALS, "to", "be", "not", "or"]
    assert vocabulary.encode(["to", "see", "or"]) == [4, 1, 7]
    assert vocabulary.decode([4, 1, 7]) == ["to", UNK, "or"]
    assert len(vocabulary) == 8
    assert "be" in vocabulary
    assert "see" not in vocabulary
    assert vocabulary.id("see") == 1


def test_limits():
    tokens = "a a a b b c".split()
    assert list(Vocabulary.from_tokens(tokens, min_count=2))[4:] == ["a", "b"]
    assert list(Vocabulary.from_tokens(tokens, max_size=5))[4:] == ["a"]


def test_special_tokens_in_the_corpus_get_no_second_id():
    assert list(Vocabulary.from_tokens(["x", BOS, UNK]))[4:] == ["x"]


@given(st.lists(st.text(min_size=1), unique=True).filter(lambda tokens: not set(tokens) & set(SPECIALS)))
def test_known_tokens_come_back(tokens):
    vocabulary = Vocabulary(tokens)
    assert vocabulary.decode(vocabulary.encode(tokens)) == tokens


@given(st.lists(st.text(alphabet='ab\n"é漢😀', min_size=1), unique=True))
def test_saved_and_loaded_whole(tmp_path_factory, tokens):
    path = tmp_path_factory.mktemp("vocab") / "v.json"
    vocabulary = Vocabulary(tokens, specials=("<mask>", UNK))
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary
    assert Vocabulary.load(path).specials == ("<mask>", UNK)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Vocabulary(["a", "b", "a"]), "listed twice: 'a'"),
        (lambda: Vocabulary(["a", BOS]), "listed twice: '<s>'"),
        (lambda: Vocabulary(["a"], specials=("<pad>",)), "lack '<unk>'"),
        (lambda: Vocabulary.from_tokens("a", min_count=0), "min_count must be at least 1, got 0"),
        (lambda: Vocabulary.from_tokens("a", max_size=4), "max_size 4 leaves no room"),
        (lambda: Vocabulary(["a"]).decode([5]), r"id 5 is outside 0 … 4"),
        (lambda: Vocabulary(["a"]).decode([-1]), r"id -1 is outside 0 … 4"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"tokens": ["a"]}), "\ud83d"])
def test_a_file_that_is_no_vocabulary(tmp_path, content):
    path = tmp_path / "v.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"v.json is not a vocabulary"):
        Vocabulary.load(path)
