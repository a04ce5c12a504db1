"""WordPiece, the tokenizer of BERT: the longest known beginning of a word, then the longest continuation, and so on.

Pieces inside a word are written with ## before them. A word that cannot be cut into known pieces is one ``[UNK]``.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from lmcore.text.bert_normalize import normalize, split_words
from lmcore.text.subword import SubwordTokenizer, expect, read_tokenizer_json, read_tokens, strings

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST = 100  # characters; longer words are [UNK], as in BERT


def learn_pieces(counts: Mapping[str, int], size: int) -> list[str]:
    """Learn a vocabulary of word pieces.

    Characters come first; then, again and again, the two neighbouring pieces become one whose merging raises most the
    likelihood of the text under a unigram model of its pieces. Byte-pair encoding would take the most frequent pair.

    Args:
        counts: how often each word occurs, ≥ 1.
        size: number of pieces wanted; at least the characters' forms are learnt.
    Returns:
        Pieces, continuations with ## before them: the characters in order, then the merged ones as they were learnt.
    Raises:
        ValueError: a count below 1, or size < 0.
    Cost: each merge looks at all pairs once, about 5 million per second, and rewrites the words that hold the best one.
    Source: Schuster and Nakajima 2012.
    Differs: count(ab) / (count(a) · count(b)), a score often given for WordPiece, is the gain of one occurrence; it
        learns the rarest words first.

    >>> learn_pieces({"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}, 8)
    ['##g', '##n', '##s', '##u', 'b', 'h', 'p', '##ug']
    """
    if size < 0:
        raise ValueError(f"size must be at least 0, got {size}")
    wrong = [word for word, count in counts.items() if count < 1]
    if wrong:
        raise ValueError(f"counts must be at least 1, got {counts[wrong[0]]} for {wrong[0]!r}")
    words = [[word[0], *("##" + letter for letter in word[1:])] for word in counts if word]
    numbers = [count for word, count in counts.items() if word]
    pieces = sorted({piece for word in words for piece in word})
    single, pair, where = Counter(), Counter(), defaultdict(set)
    for n, word in enumerate(words):
        _count(word, numbers[n], n, single, pair, where)
    known = set(pieces)
    while len(pieces) < size and pair:
        gains = _gains(pair, single).round(6)  # what differs less is equal, and the alphabet decides
        best = min(ab for ab, is_best in zip(pair, gains == gains.max(), strict=True) if is_best)
        new = best[0] + best[1].removeprefix("##")
        if new not in known:  # two ways to the same piece are one piece
            known.add(new)
            pieces.append(new)
        for n in list(where[best]):
            _count(words[n], -numbers[n], n, single, pair, where)
            words[n] = _merged(words[n], best, new)
            _count(words[n], numbers[n], n, single, pair, where)
    return pieces


def _gains(pair: Mapping[tuple[str, str], int], single: Counter) -> np.ndarray:
    """How much the log-likelihood Σ c log(c / N) = Σ c log c − N log N grows when each pair becomes one piece."""
    count = np.array(list(pair.values()))
    first, second = (np.array([single[ab[side]] for ab in pair]) for side in (0, 1))
    equal = np.array([a == b for a, b in pair])
    left = np.where(equal, _x_log_x(first - 2 * count), _x_log_x(first - count) + _x_log_x(second - count))
    before = np.where(equal, _x_log_x(first), _x_log_x(first) + _x_log_x(second))
    total = np.array(single.total())
    return _x_log_x(count) + left - before - _x_log_x(total - count) + _x_log_x(total)


def _x_log_x(x: np.ndarray) -> np.ndarray:
    """Compute x log x of whole numbers, 0 at 0 and, where pairs of equal pieces overlap, below."""
    return x * np.log(np.maximum(x, 1))


def _count(word: list[str], count: int, n: int, single: Counter, pair: Counter, where: dict[tuple, set]) -> None:
    """Add a word's pieces and pairs to the counts, or with a negative count take them away."""
    for piece in word:
        single[piece] += count
    for ab in pairwise(word):
        pair[ab] += count
        where[ab].add(n) if count > 0 else where[ab].discard(n)
        if not pair[ab]:
            del pair[ab]


def _merged(word: list[str], best: tuple[str, str], new: str) -> list[str]:
    """Replace the pair by the new piece, from the left."""
    result, i = [], 0
    while i < len(word):
        found = tuple(word[i : i + 2]) == best
        result.append(new if found else word[i])
        i += 2 if found else 1
    return result


class WordPiece(SubwordTokenizer):
    """WordPiece with a given vocabulary; ``fit`` learns one, ``from_vocab_file`` reads BERT's.

    Args:
        tokens: all pieces in the order of their ids; ``[UNK]`` must be among them.
        lowercase: fold case and drop accents first ("uncased").
        specials: those of ``[PAD] [UNK] [CLS] [SEP] [MASK]`` that are among the tokens, if None.
    Raises:
        ValueError: no ``[UNK]``, or as `SubwordTokenizer`.
    Source: Schuster and Nakajima 2012; Wu et al. 2016; the greedy search as in BERT, Devlin et al. 2019.

    >>> wordpiece = WordPiece(["[UNK]", "un", "##happi", "##ness", "!"])
    >>> wordpiece.split("Unhappiness!"), wordpiece.split("happy")
    (['un', '##happi', '##ness', '!'], ['[UNK]'])
    """

    def __init__(self, tokens: Sequence[str], *, lowercase: bool = True, specials: Sequence[str] | None = None):
        if specials is None:
            specials = [token for token in SPECIALS if token in set(tokens)]
        super().__init__(tokens, specials=specials)
        if "[UNK]" not in self._ids:
            raise ValueError("tokens lacks '[UNK]', which stands for every word that cannot be cut into pieces")
        self.lowercase = lowercase
        self._longest = max(map(len, self.tokens))

    @classmethod
    def fit(cls, texts: Iterable[str], *, size: int, lowercase: bool = True) -> "WordPiece":
        """Learn a vocabulary of so many tokens, special ones included.

        Raises:
            TypeError: texts is one string, or one of them is no string.
            ValueError: size has no room for the special tokens and the characters of the texts.
        """
        counts = Counter()
        for text in strings(texts):
            counts.update(word for word in split_words(normalize(text, lowercase=lowercase)) if len(word) <= LONGEST)
        pieces = [piece for piece in learn_pieces(counts, max(0, size - len(SPECIALS))) if piece not in SPECIALS]
        if len(pieces) + len(SPECIALS) > size:
            raise ValueError(
                f"size {size} is below {len(SPECIALS)} special tokens and {len(pieces)} forms of characters"
            )
        return cls([*SPECIALS, *pieces], lowercase=lowercase)

    @classmethod
    def from_vocab_file(cls, path: str | os.PathLike, *, lowercase: bool = True) -> "WordPiece":
        """Read BERT's ``vocab.txt``: one token per line, its number is its line."""
        with open(path, encoding="utf-8", newline="\n") as file:
            return cls([line.rstrip("\r\n") for line in file], lowercase=lowercase)

    def _pieces(self, text: str) -> list[str]:
        return split_words(normalize(text, lowercase=self.lowercase))

    def _encode_piece(self, piece: str) -> list[int]:
        """Cut off the longest known beginning until nothing is left."""
        if len(piece) > LONGEST:
            return [self._ids["[UNK]"]]
        ids, start, prefix = [], 0, ""
        while start < len(piece):
            for end in range(min(len(piece), start + self._longest), start, -1):
                token = prefix + piece[start:end]
                if token in self._ids and token not in self.specials:
                    ids.append(self._ids[token])
                    break
            else:
                return [self._ids["[UNK]"]]
            start, prefix = end, "##"
        return ids

    def _join(self, tokens: Sequence[str]) -> str:
        """Put words together with spaces between them: where there were none, and which case, is lost."""
        return " ".join(tokens).replace(" ##", "")

    def _parts(self) -> dict[str, Any]:
        bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
        vocab = {token: number for number, token in enumerate(self.tokens)}
        model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
        return {
            "normalizer": {**bert, "lowercase": self.lowercase},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
            "model": {**model, "max_input_chars_per_word": LONGEST, "vocab": vocab},
        }

    @classmethod
    def load(cls, path: str | os.PathLike) -> "WordPiece":
        """Read a ``tokenizer.json``, written here or by Hugging Face's library.

        Raises:
            ValueError: another kind of tokenizer, or a setting that this one does not have; named.
        """
        content = read_tokenizer_json(path, "WordPiece")
        model, steps = content["model"], content.get("normalizer") or {}
        expect(path, "model.unk_token", model["unk_token"], "[UNK]")
        expect(path, "model.continuing_subword_prefix", model["continuing_subword_prefix"], "##")
        expect(path, "model.max_input_chars_per_word", model["max_input_chars_per_word"], LONGEST)
        expect(path, "normalizer.type", steps.get("type"), "BertNormalizer")
        for name, allowed in (("clean_text", [True]), ("handle_chinese_chars", [True])):
            expect(path, f"normalizer.{name}", steps.get(name), *allowed)
        expect(path, "normalizer.strip_accents", steps.get("strip_accents"), None, steps["lowercase"])
        expect(path, "pre_tokenizer.type", (content.get("pre_tokenizer") or {}).get("type"), "BertPreTokenizer")
        return cls(read_tokens(path, content)[0], lowercase=steps["lowercase"])
