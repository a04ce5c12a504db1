import contextlib
import math
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore import data
from lmcore.classical.arithmetic_coding import Encoder, decode, encode
from lmcore.classical.coding_models import (
    TOTAL,
    AdaptiveCounts,
    Model,
    Predictor,
    RecentSymbols,
    cumulative_frequencies,
)
from lmcore.classical.kneser_ney import KneserNeyArrays
from lmcore.text.vocab import EOS

FAIR = [1 / 2, 1 / 2]


def surprise(symbols, predict):
    """−Σ log₂ p, in bits."""
    return -sum(math.log2(predict(symbols[:i])[symbol]) for i, symbol in enumerate(symbols))


def dearest(symbols, predict, V):
    """The most bytes that the docstring of encode allows."""
    return math.ceil((surprise(symbols, predict) + len(symbols) * (V * 2**-23 + 2**-15)) / 8)


def hashed(history, V, seed, sharpness):
    """A model out of thin air: it looks at the whole history, and some of its symbols are nearly impossible."""
    rng = np.random.default_rng([seed, len(history), *history[-5:]])
    weights = rng.random(V) ** sharpness + 1e-12
    return weights / weights.sum()


class TestByHand:
    def test_eight_coins_are_one_byte(self):
        for byte in (0, 1, 0x5A, 0xFF):
            coins = [int(bit) for bit in f"{byte:08b}"]
            assert encode([*coins, *coins], lambda history: FAIR).ljust(2, b"\0") == bytes([byte, byte])

    def test_an_interval_on_paper(self):
        """Shares ½, ¼, ¼: the text 2 0 1 owns [¾ + 0 + 1/16, + 1/32) = [13/16, 27/32), and 13/16 is 1101 in bits."""
        assert encode([2, 0, 1], lambda history: [1 / 2, 1 / 4, 1 / 4]) == bytes([0b11010000])
        assert decode(bytes([0b11010000]), lambda history: [1 / 2, 1 / 4, 1 / 4], 3) == [2, 0, 1]

    def test_nothing_takes_no_byte(self):
        assert encode([], lambda history: FAIR) == encode(np.array([]), lambda history: FAIR) == b""
        assert decode(b"", lambda history: FAIR, 0) == []

    def test_what_is_certain_takes_no_byte(self):
        assert encode([1] * 1000, lambda history: [0, 1, 0]) == b""
        assert decode(b"", lambda history: [0, 1, 0], 1000) == [1] * 1000

    def test_a_carry_runs_through_bytes_already_written(self):
        """The middle half of the middle half … closes in on ½ from both sides; only then it turns out: above ½."""
        encoder, quarters = Encoder(), [0, TOTAL // 4, 3 * TOTAL // 4, TOTAL]
        for _ in range(80):
            encoder.push(quarters, 1)
        assert encoder._written == b"\x7f" + b"\xff" * (len(encoder._written) - 1)
        assert len(encoder._written) >= 4
        encoder.push(quarters, 2)
        code = encoder.finish()
        assert code[:9] == b"\x80" + bytes(8)
        assert decode(code, lambda history: [1 / 4, 1 / 2, 1 / 4], 81) == [1] * 80 + [2]


class TestFrequencies:
    def test_by_hand(self):
        assert list(cumulative_frequencies(FAIR)) == [0, TOTAL // 2, TOTAL]
        assert list(cumulative_frequencies([0, 1])) == [0, 0, TOTAL]
        assert list(cumulative_frequencies([1e-300, 1 - 1e-16, 0])) == [0, 1, TOTAL, TOTAL]
        assert isinstance(cumulative_frequencies(FAIR), array)

    @given(st.lists(st.one_of(st.just(0), st.floats(1e-300, 1)), min_size=1, max_size=31).filter(any))
    def test_shares_are_whole_and_nearly_right(self, weights):
        probs = np.array(weights) / sum(weights)
        counts = np.diff(cumulative_frequencies(probs))
        assert counts.sum() == TOTAL
        assert ((counts > 0) == (probs > 0)).all()
        assert np.abs(counts / TOTAL - probs).max() <= len(probs) / TOTAL
        likeliest = probs.argmax()
        others = np.arange(len(probs)) != likeliest
        assert (counts >= probs * (TOTAL - len(probs)) - 1e-6)[others].all()

    def test_a_large_alphabet(self):
        V = 99_991
        assert np.diff(cumulative_frequencies(np.full(V, 1 / V))).min() >= TOTAL // V - 1


@settings(deadline=None, max_examples=60)
@given(
    V=st.integers(1, 11),
    seed=st.integers(0, 999),
    sharpness=st.sampled_from([0, 1, 7, 40]),
    choices=st.lists(st.integers(0, 10**6), max_size=97),
)
def test_any_text_under_any_model(V, seed, sharpness, choices):
    """What was encoded is decoded, and costs what the model says; also for texts that the model finds absurd."""
    symbols = [choice % V for choice in choices]

    def predict(history):
        return hashed(history, V, seed, sharpness)

    code = encode(symbols, predict)
    assert decode(code, predict, len(symbols)) == symbols
    assert len(code) <= dearest(symbols, predict, V)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 6), max_size=211), st.integers(0, 3))
def test_adaptive_counts(symbols, k):
    """A model that learns while it codes; in the long run it knows its text."""
    code = encode(symbols, AdaptiveCounts(7, k=k))
    assert decode(code, AdaptiveCounts(7, k=k), len(symbols)) == symbols
    counts, bits = {}, 0.0
    for i, symbol in enumerate(symbols):
        seen = counts.setdefault(tuple(symbols[max(0, i - k) : i]), [0.5] * 7)
        bits -= math.log2(seen[symbol] / sum(seen))
        seen[symbol] += 1
    assert len(code) <= math.ceil((bits + len(symbols) * 2**-14) / 8)


def test_adaptive_counts_learn():
    symbols = [0, 1, 2, 3, 4] * 200
    assert len(encode(symbols, AdaptiveCounts(5, k=1))) < len(encode(symbols, AdaptiveCounts(5))) / 10
    assert len(encode(symbols, AdaptiveCounts(5))) == pytest.approx(1000 * math.log2(5) / 8, rel=0.02)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 4), max_size=101), st.integers(0, 3), st.integers(0, 99))
def test_recent_symbols_asks_once_for_each_context(symbols, k, seed):
    asked = []

    def predict(recent):
        asked.append(tuple(recent))
        return hashed(recent, 5, seed, 3)

    model = RecentSymbols(predict, k)
    code = encode(symbols, model)
    assert decode(code, model, len(symbols)) == symbols
    assert len(asked) == len(set(asked)) <= 5**k + sum(5**i for i in range(k))
    assert code == encode(symbols, lambda history: hashed(history[max(0, len(history) - k) :], 5, seed, 3))


def test_zero_probability_symbols_are_skipped():
    holes = [0, 0.25, 0, 0, 0.75, 0]
    symbols = [4, 1, 4, 4, 1, 1, 4]
    assert decode(encode(symbols, lambda history: holes), lambda history: holes, 7) == symbols


def test_an_end_symbol_and_other_kinds_of_input():
    model = Predictor(lambda history: [0.6, 0.3, 0.1])
    for symbols in ([2], [0, 1, 0, 2], (1, 1, 2), np.array([0, 0, 2]), b"\0\1\2", bytearray([1, 2]), iter([1, 2])):
        expected = list(symbols) if not hasattr(symbols, "__next__") else [1, 2]
        given_ = expected if hasattr(symbols, "__next__") else symbols
        assert decode(encode(given_, model), model, end=2) == expected


def test_no_model_is_asked_what_follows_the_last_symbol():
    """A model may refuse a history that holds the end mark; and coding n symbols takes n answers."""
    asked = []

    def predict(history):
        if 2 in history:
            raise KeyError("nothing follows the end mark")
        asked.append(tuple(history))
        return [0.6, 0.3, 0.1]

    for model in (predict, RecentSymbols(predict, 3)):
        code = encode([0, 1, 0, 2], model)
        assert decode(code, model, 4) == decode(code, model, end=2) == [0, 1, 0, 2]
    assert set(asked) == {(), (0,), (0, 1), (0, 1, 0)}


def test_it_is_the_shannon_code_of_a_long_text():
    """Symbols drawn from the model itself: the size is n times the entropy, within one part in a hundred."""
    p = np.array([0.5, 0.2, 0.15, 0.1, 0.05])
    symbols = np.random.default_rng(5).choice(5, p=p, size=20_011)
    code = encode(symbols, RecentSymbols(lambda recent: p, 0))
    assert 8 * len(code) == pytest.approx(-np.log2(p[symbols]).sum(), abs=9)
    assert 8 * len(code) == pytest.approx(20_011 * -(p * np.log2(p)).sum(), rel=0.01)


class TestErrors:
    @pytest.mark.parametrize(
        ("probs", "message"),
        [
            ([0.5, -0.1, 0.6], r"probability -0.1 of symbol 1: it must be at least zero"),
            ([0.5, math.nan], r"probability nan of symbol 1"),
            ([0.5, 0.6], r"the probabilities sum to 1.1, not to 1"),
            ([0.5, math.inf], r"the probabilities sum to inf"),
            ([0, 0], r"the probabilities sum to 0"),
            ([], r"list of 1 to 8,388,608 numbers, got shape \(0,\)"),
            ([[0.5, 0.5]], r"got shape \(1, 2\)"),
        ],
    )
    def test_probabilities(self, probs, message):
        for call in (lambda: cumulative_frequencies(probs), lambda: encode([0], lambda history: probs)):
            with pytest.raises(ValueError, match=message):
                call()
        with pytest.raises(ValueError, match=message):
            decode(b"abc", lambda history: probs, 3)

    @pytest.mark.parametrize(
        ("symbols", "message"),
        [
            ([0, 1, 2], r"symbols\[2\] = 2: is outside the alphabet"),
            ([0, -1], r"symbols\[1\] = -1: symbols are numbered from 0"),
            ([0.0, 1.0], r"symbols must be a list of whole numbers, got float64"),
            (["a"], r"symbols must be a list of whole numbers, got <U1"),
            ([[0, 1]], r"whole numbers, got int64 of shape \(1, 2\)"),
        ],
    )
    def test_symbols(self, symbols, message):
        with pytest.raises(ValueError, match=message):
            encode(symbols, lambda history: FAIR)

    def test_an_impossible_symbol(self):
        with pytest.raises(ValueError, match=r"symbols\[1\] = 0: symbol 0 has probability zero here"):
            encode([1, 0], lambda history: [0, 1])

    def test_models(self):
        for call in (lambda model: encode([0], model), lambda model: decode(b"", model, 1)):
            with pytest.raises(TypeError, match=r"model must be a Model or a function .* got \[0.5, 0.5\]"):
                call(FAIR)
        with pytest.raises(TypeError, match="abstract"):
            Model()
        with pytest.raises(ValueError, match="k must be a whole number of at least 0, got -1"):
            RecentSymbols(lambda recent: FAIR, -1)
        with pytest.raises(ValueError, match=r"k must be a whole number of at least 0, got 1\.5"):
            AdaptiveCounts(2, k=1.5)
        with pytest.raises(ValueError, match="vocabulary_size must be at least 1, got 0"):
            AdaptiveCounts(0)
        with pytest.raises(ValueError, match="alpha must be above zero, got 0"):
            AdaptiveCounts(2, alpha=0)

    def test_how_many(self):
        for how in ({}, {"n": 3, "end": 1}):
            with pytest.raises(ValueError, match="give either n, the number of symbols, or end"):
                decode(b"", lambda history: FAIR, **how)
        for n in (-1, 2.0):
            with pytest.raises(ValueError, match="n must be a whole number of at least 0"):
                decode(b"", lambda history: FAIR, n)


class TestDamage:
    """Data that are not what encode wrote end in an error or another text, never in an endless loop."""

    MODEL = AdaptiveCounts(5, k=1)
    SYMBOLS = (*np.random.default_rng(3).integers(0, 4, size=997).tolist(), 4)

    def test_truncated(self):
        code = encode(self.SYMBOLS, self.MODEL)
        for size in range(0, len(code) - 8, 7):
            with pytest.raises(ValueError, match=r"end too early|were not written by this coder|left after the last"):
                assert decode(code[:size], self.MODEL, len(self.SYMBOLS)) != self.SYMBOLS

    def test_too_long(self):
        code = encode(self.SYMBOLS, self.MODEL)
        with pytest.raises(ValueError, match="bytes are left after the last symbol"):
            decode(code + bytes(range(9)), self.MODEL, len(self.SYMBOLS))
        with pytest.raises(ValueError, match="bytes are left after the last symbol"):
            decode(code, self.MODEL, 500)

    @settings(deadline=None)
    @given(st.binary(min_size=1, max_size=11), st.integers(0, 97))
    def test_what_follows_is_noticed_or_is_another_text(self, junk, n):
        """Also bytes that the decoder has in its window anyway: no two data bring the same text."""
        code = encode(self.SYMBOLS[:n], self.MODEL)
        with pytest.raises(ValueError, match=f"{len(junk)} bytes are left after the last symbol"):
            decode(code + bytes(len(junk)), self.MODEL, n)
        with contextlib.suppress(ValueError):
            assert encode(decode(code + junk, self.MODEL, n), self.MODEL) == code + junk

    def test_another_number_in_the_interval(self):
        """Three coins 0 0 1 own ⅛ … ¼; of the numbers there, an encoder writes only the first, 0x20."""
        assert decode(b"\x20", lambda history: FAIR, 3) == [0, 0, 1]
        with pytest.raises(ValueError, match="these data were not written by this coder with this model"):
            decode(b"\x21", lambda history: FAIR, 3)
        with pytest.raises(ValueError, match="1 bytes are left after the last symbol"):
            decode(b"\x20\x00", lambda history: FAIR, 3)

    def test_zeros_cut_off_a_finished_block(self):
        """Twenty coins: two bytes are written as a block, zeros or not, so a decoder misses them."""
        code = encode([0] * 20, lambda history: FAIR)
        assert code == bytes(2)
        with pytest.raises(ValueError, match="the data end too early"):
            decode(b"", lambda history: FAIR, 20)

    def test_another_model(self):
        with pytest.raises(ValueError, match=r"end too early|not written by this coder|left after"):
            decode(encode(self.SYMBOLS, self.MODEL), lambda history: [0.01, 0.01, 0.01, 0.01, 0.96], 998)

    def test_a_number_beyond_all_shares(self):
        """Integer division leaves a sliver at the top of the interval that no symbol owns; no encoder goes there."""
        with pytest.raises(ValueError, match="these data were not written by this coder with this model"):
            decode(b"\xff" * 20, lambda history: [1 / 3, 1 / 3, 1 / 3], 40)

    def test_round_in_circles(self):
        """A model that is sure of itself takes no bits, so the data never run out."""
        with pytest.raises(ValueError, match="no end symbol among the first 5,003: foreign data, or raise the limit"):
            decode(b"abc", RecentSymbols(lambda recent: [1, 0], 0), end=1, limit=5003)

    @settings(deadline=None, max_examples=60)
    @given(st.binary(max_size=61), st.booleans())
    def test_noise(self, noise, counted):
        model = RecentSymbols(lambda recent: hashed(recent, 5, 1, 3), 1)
        try:
            symbols = decode(noise, model, 101) if counted else decode(noise, model, end=4)
        except ValueError as error:
            said = str(error)
            assert "end too early" in said or "were not written" in said or "are left after" in said
        else:  # then it is the code of a text, and each text has only one
            assert encode(symbols, model) == noise


@pytest.fixture(scope="module")
def bibles():
    """The King James text and the World English one, each as one string."""
    return ["".join(verse.text + "\n" for verse in data.load(name)) for name in ("king-james", "world-english")]


def test_the_whole_king_james_text(bibles):
    """All 4.1 million characters there and back, by a model that has read only the World English Bible."""
    king_james, other = bibles
    speller = KneserNeyArrays(5).fit([list(other), sorted(set(king_james))])  # the second: so that it knows all letters
    letters = speller.vocabulary_
    number = {letter: i for i, letter in enumerate(letters)}
    symbols = [*map(number.get, king_james), number[EOS]]

    def model():
        return RecentSymbols(lambda recent: speller.distribution([letters[i] for i in recent]), 4)

    encoder_s, decoder_s = model(), model()
    code = encode(symbols, encoder_s)
    assert decode(encode(symbols[:100_003], encoder_s), decoder_s, 100_003) == symbols[:100_003]  # two models, alike
    assert decode(code, encoder_s, end=number[EOS]) == symbols
    bits = -speller.score([list(king_james)]).sum() / math.log(2)
    assert 8 * len(code) == pytest.approx(bits, rel=0.001)  # that is ten times closer than one part in a hundred
