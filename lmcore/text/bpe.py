"""Byte-level byte-pair encoding, the tokenizer of GPT-2 and its descendants: any text, no unknown tokens.

A text is cut into pieces (`pretokenize`), a piece is its bytes, and the merges learnt in training (`bpe_training`) are
applied to it in their order. Nothing is lost: decoding gives every text back.
"""

import heapq
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from lmcore.text import bpe_training
from lmcore.text.bpe_training import Merge
from lmcore.text.pretokenize import PATTERNS, byte_letters, pretokenize, to_bytes, to_letters
from lmcore.text.subword import SubwordTokenizer, expect, read_tokenizer_json, read_tokens

_SHORT = 32  # letters; up to here looking at all pairs again is faster than a heap


class ByteLevelBPE(SubwordTokenizer):
    """Byte-level BPE with given merges; ``fit`` makes one from texts.

    Args:
        merges: pairs of tokens, as letters, in the order in which they were learnt.
        pattern: how texts are cut into pieces, see `lmcore.text.pretokenize.PATTERNS`.
        specials: special tokens.
        tokens: all tokens in the order of their ids; None: the specials, the 256 bytes by letter, then what the merges
            make.
    Raises:
        ValueError: a merge of or into a token that does not exist, one that is listed twice, or an unknown pattern.
    Source: Sennrich, Haddow and Birch 2016; on bytes: Radford et al. 2019.

    >>> bpe = ByteLevelBPE([("l", "o"), ("lo", "w")])
    >>> bpe.split("low lo 低"), bpe.decode(bpe.encode("low lo 低"))
    (['low', 'Ġ', 'lo', 'Ġ', 'ä', '½', 'İ'], 'low lo 低')
    """

    def __init__(
        self,
        merges: Iterable[Merge],
        *,
        pattern: str = "gpt2",
        specials: Sequence[str] = (),
        tokens: Sequence[str] | None = None,
    ):
        if pattern not in PATTERNS:
            raise ValueError(f"pattern must be one of {', '.join(PATTERNS)}, got {pattern!r}")
        self.merges = tuple((a, b) for a, b in merges)
        self.pattern = pattern
        if tokens is None:
            made = (a + b for a, b in self.merges)
            tokens = list(dict.fromkeys([*specials, *sorted(byte_letters()), *made]))
        super().__init__(tokens, specials=specials)
        self._ranks: dict[tuple[int, int], tuple[int, int]] = {}  # pair of ids → rank, id of what they become
        for rank, (a, b) in enumerate(self.merges):
            for token in (a, b, a + b):
                if token not in self._ids:
                    raise ValueError(f"merge {rank} is {a!r} {b!r}, but there is no token {token!r}")
            pair = self._ids[a], self._ids[b]
            if pair in self._ranks:  # libraries differ on which of the two counts
                raise ValueError(f"merge {rank} is {a!r} {b!r}, as merge {self._ranks[pair][0]} is; list it once")
            self._ranks[pair] = (rank, self._ids[a + b])

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        *,
        merges: int,
        pattern: str = "gpt2",
        specials: Sequence[str] = (),
        compiled: bool = False,
    ) -> "ByteLevelBPE":
        """Learn a tokenizer.

        Args:
            texts: what to learn from.
            merges: how many; the vocabulary has 256 more tokens, and the specials.
            compiled: use the version that numba compiles; the merges are the same.
        Raises:
            TypeError: texts is one string, or one of them is no string.   ValueError: merges < 0.
        """
        counts = bpe_training.count_pieces(texts, pattern)
        learn = bpe_training.learn_compiled if compiled else bpe_training.learn
        once = dict.fromkeys(learn(counts, merges))  # a pair can form anew, and be learnt again
        return cls(once, pattern=pattern, specials=specials)

    def _pieces(self, text: str) -> list[str]:
        return pretokenize(text, self.pattern)

    def _encode_piece(self, piece: str) -> list[int]:
        letters = to_letters(piece)
        whole = self._ids.get(letters)
        if whole is not None and len(letters) == 1:
            return [whole]
        try:
            ids = [self._ids[letter] for letter in letters]
        except KeyError as error:
            raise ValueError(f"there is no token for the byte {error.args[0]!r}, which {piece!r} needs") from None
        return self._merge(ids) if len(ids) <= _SHORT else self._merge_long(ids)

    def _merge(self, ids: list[int]) -> list[int]:
        """Do the earliest-learnt merge, at its leftmost place, until none is left: quadratic in the length."""
        ranks, none = self._ranks, (len(self.merges), -1)
        while len(ids) > 1:
            found = [ranks.get(pair, none) for pair in pairwise(ids)]
            best = min(found)
            if best is none:
                break
            i = found.index(best)
            ids[i : i + 2] = [best[1]]
        return ids

    def _merge_long(self, ids: list[int]) -> list[int]:
        """`_merge` with a heap of the possible merges: n log n, for pieces as long as an adversary likes."""
        after, before = [*range(1, len(ids)), -1], [-1, *range(len(ids) - 1)]
        heap: list[tuple[int, int, int, int, int]] = []  # rank, place, the two ids, what they become

        def push(i: int) -> None:
            if i >= 0 and after[i] >= 0 and (pair := (ids[i], ids[after[i]])) in self._ranks:
                rank, new = self._ranks[pair]
                heapq.heappush(heap, (rank, i, *pair, new))

        for i in range(len(ids)):
            push(i)
        while heap:
            _, i, a, b, new = heapq.heappop(heap)
            second = after[i]
            if ids[i] != a or second < 0 or ids[second] != b:
                continue  # one of the two has been merged with another neighbour
            ids[i], ids[second], after[i] = new, -1, after[second]
            if after[i] >= 0:
                before[after[i]] = i
            push(before[i])
            push(i)
        return [number for number in ids if number >= 0]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Turn ids into the bytes that they stand for; special tokens are left out."""
        return to_bytes(token for number in ids if (token := self._token(number)) not in self.specials)

    def _join(self, tokens: Sequence[str]) -> str:
        """Read bytes as UTF-8; tokens that end within a character leave a �, as when a text is cut there."""
        parts = (token.encode() if token in self.specials else to_bytes(token) for token in tokens)
        joined = b"".join(parts)
        try:
            return joined.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return joined.decode("utf-8", "replace")

    def _parts(self) -> dict[str, Any]:
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        digits = {"type": "Digits", "individual_digits": True}
        steps = {"gpt2": byte_level, "smollm2": {"type": "Sequence", "pretokenizers": [digits, byte_level]}}
        nothing = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
        model = {"type": "BPE", **dict.fromkeys(nothing), **dict.fromkeys(_FLAGS, False)}
        vocab = {token: number for number, token in enumerate(self.tokens)}
        return {
            "pre_tokenizer": steps[self.pattern],
            "decoder": byte_level,
            "model": {**model, "vocab": vocab, "merges": [list(merge) for merge in self.merges]},
        }

    @classmethod
    def load(cls, path: str | os.PathLike) -> "ByteLevelBPE":
        """Read a ``tokenizer.json``, written here or by Hugging Face's library.

        Raises:
            ValueError: another kind of tokenizer, or a setting that this one does not have; named.
        """
        content = read_tokenizer_json(path, "BPE")
        model = content["model"]
        for name in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"):
            expect(path, f"model.{name}", model.get(name) or None, None)
        for name in _FLAGS:
            expect(path, f"model.{name}", model.get(name, False), False)
        expect(path, "normalizer", content.get("normalizer"), None)
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
        tokens, specials = read_tokens(path, content)
        pattern = _pattern_of(path, content.get("pre_tokenizer"))
        return cls(merges, pattern=pattern, specials=specials, tokens=tokens)


_FLAGS = ("fuse_unk", "byte_fallback", "ignore_merges")


def _pattern_of(path: str | os.PathLike, pre_tokenizer: Mapping[str, Any] | None) -> str:
    """Which of our patterns the steps before a model are."""
    steps = (pre_tokenizer or {}).get("pretokenizers", [pre_tokenizer or {}])
    kinds = [step.get("type") for step in steps]
    expect(path, "pre_tokenizer", kinds, ["ByteLevel"], ["Digits", "ByteLevel"])
    expect(path, "add_prefix_space", steps[-1].get("add_prefix_space"), False)
    expect(path, "use_regex", steps[-1].get("use_regex", True), True)
    if len(steps) == 2:
        expect(path, "individual_digits", steps[0].get("individual_digits"), True)
    return "gpt2" if len(steps) == 1 else "smollm2"
