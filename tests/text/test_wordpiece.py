"""WordPiece: cut by hand, MiniLM's ids line by line, BERT's cleaning character by character."""

import json
import math
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers

from lmcore import data
from lmcore.checking import load
from lmcore.text.bert_normalize import normalize, split_words
from lmcore.text.wordpiece import LONGEST, SPECIALS, WordPiece, learn_pieces

mixed_lines = load(__file__.replace("test_wordpiece", "mixed")).mixed_lines


class TestCleaning:
    def test_by_hand(self):
        assert normalize("Ünïcode\u0000\ufffd\tx\u00a0y") == "unicode x y"
        assert normalize("Ünï\n中", lowercase=False) == "Ünï  中 "
        assert split_words("a+b=c, 'd'…") == ["a", "+", "b", "=", "c", ",", "'", "d", "'", "…"]
        assert split_words("  ") == []

    def test_every_old_character_is_treated_as_by_hugging_face(self):
        """All characters of Unicode 3.2: the library's tables are old, and newer characters differ."""
        changed_since = {"\u166d", "\u1734", "\u1885", "\u1886"}  # their categories are others today
        old = unicodedata.ucd_3_2_0.category
        known = [c for c in map(chr, range(0x110000)) if old(c) not in ("Cn", "Cs") and c not in changed_since]
        assert len(known) > 90_000
        for lowercase in (True, False):
            theirs = normalizers.BertNormalizer(lowercase=lowercase)
            for c in known:
                assert normalize(f"a{c}b", lowercase=lowercase) == theirs.normalize_str(f"a{c}b"), hex(ord(c))
        splitter = pre_tokenizers.BertPreTokenizer()
        for c in known:
            assert split_words(f"a{c}b") == [word for word, _ in splitter.pre_tokenize_str(f"a{c}b")], hex(ord(c))


@pytest.fixture(scope="module")
def minilm():
    return WordPiece.from_vocab_file(data.member_path("minilm", "vocab.txt"))


class TestMiniLM:
    def test_by_hand(self, minilm):
        assert minilm.split("Unaffordable naïveté!") == ["una", "##ff", "##ord", "##able", "naive", "##te", "!"]
        assert minilm.specials == SPECIALS
        assert [minilm.id(token) for token in SPECIALS] == [0, 100, 101, 102, 103]
        assert minilm.decode(minilm.encode("Hello, World")) == "hello , world"

    def test_ten_thousand_lines_id_for_id(self, minilm, tmp_path):
        minilm.save(tmp_path / "tokenizer.json")
        theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        lines = mixed_lines()
        for line, expected in zip(lines, theirs.encode_batch(lines), strict=True):
            assert minilm.encode(line, allow_special=True) == expected.ids, line

    def test_special_tokens_cannot_be_forged(self, minilm):
        assert not {minilm.id("[SEP]"), minilm.id("[CLS]")} & set(minilm.encode("a [SEP] [CLS] b"))
        assert minilm.encode("[SEP]", allow_special=True) == [minilm.id("[SEP]")]
        upper = WordPiece(["[UNK]", "[SEP]", "[", "]", "S"], lowercase=False)
        assert upper.id("[SEP]") not in upper.encode("[SEP]")

    def test_long_words_are_unknown(self, minilm):
        assert minilm.split("a" * LONGEST) != ["[UNK]"]
        assert minilm.split("a" * (LONGEST + 1)) == ["[UNK]"]


WORDS = st.dictionaries(st.text("abcdefgh", max_size=6).filter(lambda w: not repeats(w)), st.integers(1, 5), max_size=5)


def repeats(word):
    """Whether a pair of equal letters or pairs stands side by side: there counts of pairs overlap."""
    return any(word[i] == word[i + 1] or word[i : i + 2] == word[i + 2 : i + 4] for i in range(len(word) - 1))


class TestTraining:
    def test_by_hand(self):
        """Merging x y saves 3 of 8 pieces; likelihoods 3³ 3³ 2² / 8⁸ before, 3³ 2² / 5⁵ after: more than any other."""
        assert learn_pieces({"xy": 3, "z": 2}, 4) == ["##y", "x", "z", "xy"]

    def test_the_score_that_is_often_given_learns_rare_words_first(self):
        """qv is seen once and never apart, which that score likes most; the likelihood gains more by th."""
        counts = {"th": 50, "ta": 10, "sh": 10, "qv": 1}
        assert learn_pieces(counts, 7)[-1] == "th"
        single = {"t": 60, "##h": 60, "q": 1, "##v": 1}
        assert 1 / (single["q"] * single["##v"]) > 50 / (single["t"] * single["##h"])

    @given(WORDS, st.integers(0, 12))
    def test_incremental_counts_are_the_counts(self, counts, size):
        assert learn_pieces(counts, size) == recounted(counts, size)

    def test_learns_whole_frequent_words(self):
        texts = [article.text for article in data.load("encyclopedia")[:5]]
        wordpiece = WordPiece.fit(texts, size=800)
        assert len(wordpiece) == 800
        assert wordpiece.tokens[: len(SPECIALS)] == SPECIALS
        tokens = wordpiece.split(texts[0])
        assert tokens.count("[UNK]") == 0
        assert len(tokens) < 0.8 * len("".join(split_words(normalize(texts[0]))))

    def test_errors(self):
        with pytest.raises(ValueError, match="size must be at least 0, got -1"):
            learn_pieces({"a": 1}, -1)
        with pytest.raises(ValueError, match="counts must be at least 1, got 0 for 'a'"):
            learn_pieces({"a": 0}, 1)
        with pytest.raises(TypeError, match="texts is one string"):
            WordPiece.fit("text", size=10)
        with pytest.raises(TypeError, match=r"texts\[0\] must be a string, got bytes"):
            WordPiece.fit([b"text"], size=10)
        with pytest.raises(ValueError, match="size 8 is below 5 special tokens and 4 forms of characters"):
            WordPiece.fit(["text"], size=8)
        assert WordPiece.fit(["text"], size=9).tokens == (*SPECIALS, "##e", "##t", "##x", "t")
        with pytest.raises(ValueError, match=r"the token '\\ud83d' holds a lone surrogate"):
            WordPiece.fit(["\ud83d"], size=10)


def log_likelihood(words, counts):
    """Of the whole text under the unigram model that fits it best."""
    single = Counter()
    for word, parts in words.items():
        for part in parts:
            single[part] += counts[word]
    return sum(count * math.log(count / single.total()) for count in single.values())


def merged(parts, a, b):
    """A word with a b made one, from the left."""
    parts, i = list(parts), 0
    while i < len(parts) - 1:
        if (parts[i], parts[i + 1]) == (a, b):
            parts[i : i + 2] = [a + b[2:]]
        i += 1
    return parts


def recounted(counts, size):
    """The definition: try every pair, and take the one after which the text is most likely."""
    words = {word: [word[0], *("##" + letter for letter in word[1:])] for word in counts if word}
    pieces = sorted({piece for word in words.values() for piece in word})
    while len(pieces) < size:
        pairs = {ab for parts in words.values() for ab in pairwise(parts)}
        if not pairs:
            break
        tried = {ab: {word: merged(parts, *ab) for word, parts in words.items()} for ab in pairs}
        best = min(pairs, key=lambda ab: (-round(log_likelihood(tried[ab], counts), 6), ab))
        words = tried[best]
        if (new := best[0] + best[1][2:]) not in pieces:
            pieces.append(new)
    return pieces


class TestEncoding:
    @given(WORDS, st.text("abc ", max_size=30))
    def test_the_same_vocabulary_gives_the_same_pieces_as_hugging_faces(self, counts, text):
        wordpiece = WordPiece([*SPECIALS, *learn_pieces(counts, 15)])
        vocab = {token: number for number, token in enumerate(wordpiece.tokens)}
        theirs = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
        theirs.normalizer = normalizers.BertNormalizer()
        theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        assert wordpiece.encode(text) == theirs.encode(text).ids

    def test_one_unknown_character_makes_the_word_unknown(self):
        wordpiece = WordPiece(["[UNK]", "ab", "##c"])
        assert wordpiece.split("abc abd ab") == ["ab", "##c", "[UNK]", "ab"]


class TestFiles:
    def test_saved_and_loaded(self, tmp_path):
        ours = WordPiece(["[UNK]", "A", "##b", "[SEP]"], lowercase=False)
        ours.save(tmp_path / "tokenizer.json")
        again = WordPiece.load(tmp_path / "tokenizer.json")
        assert (again.tokens, again.specials, again.lowercase) == (ours.tokens, ours.specials, False)

    def test_what_hugging_face_writes_is_read_here(self, tmp_path, minilm):
        from tokenizers.implementations import BertWordPieceTokenizer

        theirs = BertWordPieceTokenizer(str(data.member_path("minilm", "vocab.txt")))
        theirs.save(str(tmp_path / "tokenizer.json"))
        ours = WordPiece.load(tmp_path / "tokenizer.json")
        assert ours.tokens == minilm.tokens
        for line in mixed_lines()[:400]:
            assert ours.encode(line, allow_special=True) == theirs.encode(line, add_special_tokens=False).ids

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model": {"unk_token": "<unk>"}}, r"model\.unk_token is '<unk>'; understood is '\[UNK\]'"),
            ({"model": {"max_input_chars_per_word": 9}}, "max_input_chars_per_word is 9"),
            ({"normalizer": {"type": "NFC"}}, r"normalizer\.type is 'NFC'"),
            ({"normalizer": {"strip_accents": False}}, r"normalizer\.strip_accents is False"),
            ({"normalizer": {"clean_text": False}}, r"normalizer\.clean_text is False"),
            ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer.type is 'Whitespace'"),
        ],
    )
    def test_what_is_not_understood_is_named(self, tmp_path, change, message):
        path = tmp_path / "tokenizer.json"
        WordPiece(["[UNK]", "a"]).save(path)
        content = json.loads(path.read_text(encoding="utf-8"))
        for part, settings in change.items():
            content[part] |= settings
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            WordPiece.load(path)

    def test_no_unknown_token(self):
        with pytest.raises(ValueError, match=r"tokens lacks '\[UNK\]'"):
            WordPiece(["a"])
