"""Unigram: cuts and averages against all ways to cut, Hugging Face's ids with the same pieces, training that climbs."""

import json
import math
from collections import Counter
from itertools import pairwise

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from lmcore import data
from lmcore.checking import load
from lmcore.text import unigram
from lmcore.text.unigram import UNKNOWN, Unigram, best_cut, expected_counts, learn_pieces, split_at_spaces

mixed_lines = load(__file__.replace("test_unigram", "mixed")).mixed_lines
PIECES = st.dictionaries(st.text("abc", min_size=2, max_size=4), st.integers(1, 9), max_size=8)
WORDS = st.text("abc", min_size=1, max_size=7)


def logprobs_of(pieces):
    """Weights as log-probabilities; every letter is a piece."""
    weights = {"a": 3, "b": 2, "c": 1} | pieces
    return {piece: math.log(weight / sum(weights.values())) for piece, weight in weights.items()}


def all_cuts(word, logprobs):
    """Every way to cut a word, with its log-probability."""
    if not word:
        return [(0.0, [])]
    cuts = []
    for end in range(1, len(word) + 1):
        if word[:end] in logprobs:
            cuts += [(logprobs[word[:end]] + rest, [word[:end], *cut]) for rest, cut in all_cuts(word[end:], logprobs)]
    return cuts


class TestCutting:
    @given(PIECES, WORDS)
    def test_the_best_cut_is_the_best_of_all(self, pieces, word):
        logprobs = logprobs_of(pieces)
        score, cut = best_cut(word, unigram._edges(word, logprobs, 4), logprobs)
        assert "".join(cut) == word
        assert score == pytest.approx(sum(logprobs[piece] for piece in cut))
        assert score == pytest.approx(max(score for score, _ in all_cuts(word, logprobs)))

    @given(PIECES, WORDS)
    def test_expected_counts_are_the_average_over_all_cuts(self, pieces, word):
        logprobs = logprobs_of(pieces)
        cuts = all_cuts(word, logprobs)
        total = sum(math.exp(score) for score, _ in cuts)
        expected = Counter()
        for score, cut in cuts:
            for piece in cut:
                expected[piece] += math.exp(score) / total
        logprob, uses = expected_counts(word, unigram._edges(word, logprobs, 4), logprobs)
        found = Counter()
        for piece, probability in uses:
            found[piece] += probability
        assert logprob == pytest.approx(math.log(total))
        assert {piece: found[piece] for piece in expected} == pytest.approx(dict(expected))
        assert sum(len(piece) * probability for piece, probability in uses) == pytest.approx(len(word))

    def test_spaces(self):
        assert split_at_spaces("to  be") == ["▁to", "▁", "▁be"]
        assert split_at_spaces(" to") == ["▁to"]
        assert split_at_spaces("") == []


def perplexity_of_letters(counts, logprobs):
    """How surprised the pieces are by the words, over all ways to cut them."""
    longest = max(map(len, logprobs))
    surprise = -sum(
        count * expected_counts(word, unigram._edges(word, logprobs, longest), logprobs)[0]
        for word, count in counts.items()
    )
    return math.exp(surprise / sum(len(word) * count for word, count in counts.items()))


@pytest.fixture(scope="module")
def counts():
    """Words of a piece of an article."""
    text = data.load("encyclopedia")[7].text[:15_000]
    return Counter(word for line in text.split("\n") for word in split_at_spaces(line))


class TestTraining:
    def test_every_step_of_em_raises_the_likelihood(self, counts):
        logprobs = unigram._normalized(unigram.seed_pieces(counts, 800, 8))
        steps = [perplexity_of_letters(counts, logprobs)]
        for _ in range(4):
            used = Counter()
            for word, count in counts.items():
                for piece, p in expected_counts(word, unigram._edges(word, logprobs, 8), logprobs)[1]:
                    used[piece] += count * p
            logprobs = unigram._normalized({piece: n for piece, n in used.items() if n > 0})
            steps.append(perplexity_of_letters(counts, logprobs))
        assert all(after < before for before, after in pairwise(steps))

    def test_learns_pieces_that_shorten_the_text(self, counts):
        pieces = learn_pieces(counts, 300)
        assert len(pieces) == 300
        assert sum(map(math.exp, pieces.values())) == pytest.approx(1)
        assert {letter for word in counts for letter in word} <= pieces.keys()
        assert list(pieces.values()) == sorted(pieces.values(), reverse=True)
        tokens = sum(
            count * len(best_cut(word, unigram._edges(word, pieces, 16), pieces)[1]) for word, count in counts.items()
        )
        assert tokens < 0.5 * sum(len(word) * count for word, count in counts.items())
        assert "▁the" in pieces

    def test_characters_are_kept_even_if_there_are_more(self):
        assert set(learn_pieces({"abc": 1, "abd": 1}, 2)) == set("abcd")
        assert learn_pieces({"": 3}, 5) == {}

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: learn_pieces({"a": 1}, 0), "size and longest must be at least 1"),
            (lambda: learn_pieces({"a": 1}, 5, longest=0), "size and longest must be at least 1"),
            (lambda: learn_pieces({"a": 1}, 5, shrink=1.0), r"shrink in \(0, 1\)"),
            (lambda: learn_pieces({"a": 0}, 5), "counts must be at least 1, got 0 for 'a'"),
        ],
    )
    def test_errors(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()

    def test_errors_of_fit(self):
        with pytest.raises(TypeError, match="texts is one string"):
            Unigram.fit("text", size=5)
        with pytest.raises(TypeError, match=r"texts\[1\] must be a string, got NoneType"):
            Unigram.fit(["text", None], size=5)
        with pytest.raises(ValueError, match="size 4 is below 1 special tokens and 4 characters of the texts"):
            Unigram.fit(["text"], size=4)
        assert set(Unigram.fit(["text"], size=5).tokens) == {UNKNOWN, "▁", "t", "e", "x"}
        with pytest.raises(ValueError, match="holds a lone surrogate"):
            Unigram.fit(["\ud83d"], size=10)


@pytest.fixture(scope="module")
def small():
    texts = [article.text[:4000] for article in data.load("encyclopedia")[:5]]
    return Unigram.fit([line for text in texts for line in text.split("\n")], size=400, specials=["<pad>", UNKNOWN])


class TestEncoding:
    def test_ten_thousand_lines_id_for_id(self, small, tmp_path):
        small.save(tmp_path / "tokenizer.json")
        theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        lines = mixed_lines()
        for line, expected in zip(lines, theirs.encode_batch(lines), strict=True):
            assert small.encode(line, allow_special=True) == expected.ids, line

    @given(pieces=PIECES, text=st.text("abcx ", max_size=20))
    def test_the_same_pieces_give_the_same_cuts_as_hugging_faces(self, pieces, text):
        logprobs = {"▁": -5.0, **logprobs_of(pieces)}
        ours = Unigram(logprobs)
        vocab = [(UNKNOWN, 0.0), *logprobs.items()]
        theirs = tokenizers.Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=False))
        theirs.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        assert ours.split(text) == [vocab[number][0] for number in theirs.encode(text).ids]

    @given(text=st.text("abcdefghij klmn", max_size=40))
    def test_text_of_known_characters_comes_back(self, small, text):
        assert small.decode(small.encode(text)) == text.removeprefix(" ")

    def test_unknown_characters_in_a_row_are_one_unknown(self, small):
        assert small.split("中文 the")[:2] == ["▁", UNKNOWN]
        assert small.encode("中文").count(small.id(UNKNOWN)) == 1

    def test_special_tokens_cannot_be_forged(self, small):
        assert small.id("<pad>") not in small.encode("a <pad> b")
        assert small.id("<pad>") in small.encode("a <pad> b", allow_special=True)


class TestFiles:
    def test_saved_and_loaded(self, small, tmp_path):
        small.save(tmp_path / "tokenizer.json")
        again = Unigram.load(tmp_path / "tokenizer.json")
        assert (again.tokens, again.specials, again.logprobs) == (small.tokens, small.specials, small.logprobs)

    def test_what_hugging_face_writes_is_read_here(self, tmp_path):
        theirs = tokenizers.Tokenizer(models.Unigram())
        theirs.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=["<s>", UNKNOWN], unk_token=UNKNOWN, show_progress=False
        )
        theirs.train_from_iterator([article.text for article in data.load("encyclopedia")[:2]], trainer)
        theirs.save(str(tmp_path / "tokenizer.json"))
        ours = Unigram.load(tmp_path / "tokenizer.json")
        assert ours.specials == ("<s>", UNKNOWN)
        for line in mixed_lines()[:400]:
            assert ours.encode(line, allow_special=True) == theirs.encode(line).ids

    @pytest.mark.parametrize(
        ("part", "change", "message"),
        [
            ("model", {"byte_fallback": True}, r"model\.byte_fallback is True"),
            ("pre_tokenizer", {"type": "Whitespace"}, r"pre_tokenizer\.type is 'Whitespace'"),
            ("pre_tokenizer", {"prepend_scheme": "never"}, "prepend_scheme is 'never'"),
        ],
    )
    def test_what_is_not_understood_is_named(self, small, tmp_path, part, change, message):
        path = tmp_path / "tokenizer.json"
        small.save(path)
        content = json.loads(path.read_text(encoding="utf-8"))
        content[part] |= change
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            Unigram.load(path)

    def test_pieces_that_cannot_be(self):
        with pytest.raises(ValueError, match=r"specials \('<s>',\) lacks '<unk>'"):
            Unigram({"a": -1.0}, specials=["<s>"])
        with pytest.raises(ValueError, match="got no piece at all"):
            Unigram({})
        for wrong in (0.5, math.nan):
            with pytest.raises(ValueError, match=f"at most 0, one for each piece; got {wrong} for 'a'"):
                Unigram({"a": wrong})
