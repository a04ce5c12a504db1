"""Streaming: the tokens of greedy and sample, characters kept whole, nothing of a stop string is shown."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.decode import WholeText, greedy, sample
from lmcore.decode.stream import stream_text, stream_tokens, until_stop, whole_characters
from lmcore.text.bpe import ByteLevelBPE

AFTER = torch.randn(11, 11, generator=torch.Generator().manual_seed(3))
STEP = WholeText.step(lambda ids: AFTER[ids])
TOKENIZER = ByteLevelBPE.fit(["低吟 low lower 低头 emoji 😀😃 élan é"] * 3, merges=40, specials=["<|end|>"])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def cut(whole, places):
    """A sequence in parts."""
    places = sorted({0, len(whole), *(place % (len(whole) + 1) for place in places)})
    return [whole[a:b] for a, b in zip(places, places[1:], strict=False)]


class TestTokens:
    @pytest.mark.parametrize("eos", [None, *range(11)])
    @pytest.mark.parametrize("prefix", [[1], [2, 3, 5]])
    def test_greedy(self, eos, prefix):
        (expected,) = greedy(STEP, WholeText(), [prefix], eos=eos, max_length=7)
        assert tuple(stream_tokens(STEP, WholeText(), prefix, eos=eos, max_length=7)) == expected.tokens
        again = stream_tokens(STEP, WholeText(), torch.tensor(prefix), eos=eos, max_length=7)
        assert tuple(again) == expected.tokens

    @given(
        seed=st.integers(0, 99), temperature=st.floats(0.1, 3), top_k=st.none() | st.integers(1, 11),
        top_p=st.floats(0.1, 1), eos=st.none() | st.integers(0, 10),
    )  # fmt: skip
    def test_sample(self, seed, temperature, top_k, top_p, eos):
        cuts = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "eos": eos, "max_length": 7}
        (expected,) = sample(STEP, WholeText(), [[1]], **cuts, generator=generator(seed))
        got = stream_tokens(STEP, WholeText(), [1], **cuts, generator=generator(seed))
        assert tuple(got) == expected.tokens

    def test_each_token_comes_before_the_next_step(self):
        read = []

        def step(tokens, state):
            read.append(int(tokens))
            return AFTER[tokens], state

        tokens = stream_tokens(step, None, [4, 1], eos=None, max_length=5)
        assert read == []
        first = next(tokens)
        assert read == [4, 1]
        next(tokens)
        assert read == [4, 1, first]
        assert len(list(tokens)) == 3
        assert len(read) == 6  # the last token is not read

    def test_no_gradients(self):
        weight = AFTER.clone().requires_grad_()
        seen = []

        def step(tokens, state):
            seen.append(weight[tokens])
            return seen[-1], state

        assert len(list(stream_tokens(step, None, [1], eos=None, max_length=2))) == 2
        assert not any(logits.requires_grad for logits in seen)
        assert torch.is_grad_enabled()


class TestCharacters:
    def test_by_hand(self):
        a, b, c, d = (bytes([byte]) for byte in "😀".encode())
        assert list(whole_characters([b"x" + a, b, c, d + b"y", b""])) == ["x", "😀y"]
        assert list(whole_characters([b"x", a, b])) == ["x", "�"]  # the text ends within a character
        assert list(whole_characters([a + b, b"z"])) == ["�z"]
        assert list(whole_characters([])) == []

    @given(st.binary(max_size=40), st.lists(st.integers(0, 40)))
    def test_any_bytes_cut_anywhere(self, whole, places):
        parts = list(whole_characters(cut(whole, places)))
        assert "".join(parts) == whole.decode("utf-8", "replace")
        assert all(parts)

    @given(st.text(st.sampled_from("low 低吟é😀👩‍🚀\n") | st.characters(codec="utf-8"), max_size=30))
    def test_tokens_of_any_text(self, text):
        ids = TOKENIZER.encode(text)
        parts = list(stream_text(iter(ids), TOKENIZER.decode_bytes))
        assert "".join(parts) == text == TOKENIZER.decode(ids)
        assert "�" not in "".join(parts) or "�" in text
        assert all(parts)

    def test_special_tokens_are_not_shown(self):
        ids = [TOKENIZER.id("<|end|>"), *TOKENIZER.encode("低"), TOKENIZER.id("<|end|>"), *TOKENIZER.encode("头")]
        assert "".join(stream_text(ids, TOKENIZER.decode_bytes)) == "低头"


def expected_until(text, stop):
    """The text before the stop string that is complete first, by trying every end."""
    for end in range(1, len(text) + 1):
        found = [s for s in stop if text[:end].endswith(s)]
        if found:
            return text[: end - len(max(found, key=len))]
    return text


class TestStop:
    def test_by_hand(self):
        assert list(until_stop(["ab", "cd", "ef"], ["cd"])) == ["ab"]
        assert list(until_stop(["abc", "def"], ["cd"])) == ["ab"]
        assert list(until_stop(["abc", "xy"], ["cd"])) == ["ab", "cxy"]
        assert list(until_stop(["abc"], ["cd"])) == ["ab", "c"]  # the end came, and it was no stop string
        assert list(until_stop(["aab"], ["aab"])) == []
        assert list(until_stop(["a", "a", "a", "b"], ["aab"])) == ["a"]
        assert list(until_stop(["x", "y"], [])) == ["x", "y"]
        assert list(until_stop(["abcd"], ["abcd", "bc"])) == ["a"]  # bc is complete first

    @given(
        st.text("ab", max_size=20), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
        st.lists(st.integers(0, 20)),
    )  # fmt: skip
    def test_any_text_cut_anywhere(self, text, stop, places):
        parts = list(until_stop(cut(text, places), stop))
        assert "".join(parts) == expected_until(text, stop)
        assert all(parts)

    def test_no_token_is_asked_for_after_the_stop(self):
        tokens = iter([*b"ab\nc"])
        assert "".join(stream_text(tokens, bytes, stop=["\n"])) == "ab"
        assert list(tokens) == [*b"c"]

    def test_text_is_shown_at_once(self):
        asked = []

        def tokens():
            for token in b"ab\ncd":
                asked.append(token)
                yield token

        shown = stream_text(tokens(), bytes, stop=["\n\n"])
        assert next(shown) == "a"
        assert len(asked) == 1


class TestErrors:
    def test_tokens(self):
        with pytest.raises(ValueError, match="top_k and top_p need a temperature"):
            next(stream_tokens(STEP, WholeText(), [1], eos=None, max_length=3, top_k=2))
        with pytest.raises(ValueError, match="temperature must be above zero, got 0; for the limit 0 take greedy"):
            next(stream_tokens(STEP, WholeText(), [1], eos=None, max_length=3, temperature=0))
        with pytest.raises(ValueError, match="each prefix needs at least one token"):
            next(stream_tokens(STEP, WholeText(), [], eos=None, max_length=3))
        with pytest.raises(ValueError, match="max_length must be a whole number of at least 1, got 0"):
            next(stream_tokens(STEP, WholeText(), [1], eos=None, max_length=0))
        with pytest.raises(TypeError, match="prefixes must be"):
            next(stream_tokens(STEP, WholeText(), [[1]], eos=None, max_length=3))
        with pytest.raises(ValueError, match="NaN for token 0 in row 0 after 1 tokens"):
            next(stream_tokens(lambda t, s: (AFTER[t] * torch.nan, s), None, [1], eos=None, max_length=3))

    def test_stop(self):
        with pytest.raises(TypeError, match=r"stop is one string; pass a list of strings, \[stop\]"):
            next(until_stop(["a"], "ab"))
        with pytest.raises(ValueError, match="stop holds an empty string, which would stop every text"):
            next(until_stop(["a"], ["b", ""]))
