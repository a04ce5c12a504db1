"""Byte-level BPE: merges by hand and as Hugging Face learns them, GPT-2's ids line by line, any text back."""

import json

import pytest
import tiktoken
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from lmcore import data
from lmcore.checking import load
from lmcore.data.gguf import GGUF
from lmcore.text.bpe import _SHORT, ByteLevelBPE
from lmcore.text.bpe_training import count_pieces, learn, learn_by_recounting, learn_compiled
from lmcore.text.pretokenize import PATTERNS, byte_letters, pretokenize, to_bytes, to_letters

mixed_lines = load(__file__.replace("test_bpe", "mixed")).mixed_lines
TEXT = st.text(st.characters())  # every character, lone surrogates included
FEW = st.text("ab '\n1é😀", max_size=12)


class TestPretokenize:
    def test_by_hand(self):
        assert pretokenize("Don't  stop, it's 42!\n\n") == [
            "Don",
            "'t",
            " ",
            " stop",
            ",",
            " it",
            "'s",
            " 42",
            "!",
            "\n\n",
        ]
        assert pretokenize("in 1998年", "smollm2") == ["in", " ", "1", "9", "9", "8", "年"]
        assert pretokenize("") == []

    @given(TEXT, st.sampled_from(sorted(PATTERNS)))
    def test_the_pieces_are_the_text(self, text, pattern):
        assert "".join(pretokenize(text, pattern)) == text

    @given(TEXT)
    def test_letters_are_the_bytes(self, text):
        assert to_bytes(to_letters(text)) == text.encode("utf-8", "surrogatepass")

    def test_the_alphabet_is_the_one_that_everybody_uses(self):
        assert sorted(byte_letters()) == sorted(pre_tokenizers.ByteLevel.alphabet())
        assert len(set(byte_letters())) == 256

    def test_every_character_is_treated_as_by_hugging_face(self):
        """All that were in Unicode 14; newer ones depend on how old each library's tables are."""
        import unicodedata

        theirs = pre_tokenizers.ByteLevel(add_prefix_space=False)
        known = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
        text = " ".join(f"a{c}1 {c}{c} b" for c in known)
        assert [to_letters(piece) for piece in pretokenize(text)] == [p for p, _ in theirs.pre_tokenize_str(text)]
        assert len(known) > 140_000

    def test_errors(self):
        with pytest.raises(ValueError, match="pattern must be one of gpt2, smollm2, got 'llama'"):
            pretokenize("x", "llama")
        with pytest.raises(ValueError, match="'中' is the letter of no byte"):
            to_bytes(["中"])


def learnt_by_hugging_face(texts, merges):
    """The merges of the Rust trainer."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


class TestTraining:
    def test_by_hand(self):
        counts = {"low": 5, "lower": 2, "newest": 6, "widest": 3}  # the example of Sennrich et al.
        expected = [("e", "s"), ("es", "t"), ("l", "o"), ("lo", "w")]
        for version in (learn_by_recounting, learn, learn_compiled):
            assert version(counts, 4) == expected

    @pytest.mark.parametrize("version", [learn_by_recounting, learn, learn_compiled])
    def test_a_pair_of_equals_is_merged_from_the_left(self, version):
        # aa aa a, where (aa, aa) and (aa, a) occur once each and a has the lower id: aa aaa
        assert version({"aaaaa": 1}, 3) == [("a", "a"), ("aa", "a"), ("aa", "aaa")]
        assert version({"aaa": 2, "ba": 3}, 2) == [("a", "a"), ("b", "a")]

    @pytest.mark.parametrize("version", [learn_by_recounting, learn, learn_compiled])
    def test_stops_when_no_pair_is_left(self, version):
        assert version({"ab": 1}, 9) == [("a", "b")]
        assert version({"": 3, "a": 1}, 9) == []
        assert version({}, 9) == []
        assert version({"ab": 1}, 0) == []

    @given(st.dictionaries(FEW, st.integers(1, 5), max_size=8), st.integers(0, 15))
    def test_all_versions_are_the_definition(self, counts, merges):
        expected = learn_by_recounting(counts, merges)
        assert learn(counts, merges) == expected
        assert learn_compiled(counts, merges) == expected

    @pytest.mark.parametrize(("name", "size"), [("king-james", 9000), ("encyclopedia", 25), ("chinese-reviews", 1000)])
    def test_hugging_face_learns_the_same(self, name, size):
        texts = [record.text + "\n" for record in data.load(name)[:size]]
        counts = count_pieces(texts)
        expected = learnt_by_hugging_face(texts, 2000)
        assert learn(counts, 2000) == expected
        assert learn_compiled(counts, 2000) == expected
        assert learn_by_recounting(counts, 3) == expected[:3]

    def test_errors(self):
        with pytest.raises(TypeError, match="texts is one string"):
            count_pieces("text")
        with pytest.raises(TypeError, match=r"texts\[1\] must be a string, got bytes; decode bytes first"):
            count_pieces(["text", b"text"])
        for version in (learn_by_recounting, learn, learn_compiled):
            with pytest.raises(ValueError, match="merges must be at least 0, got -1"):
                version({"a": 1}, -1)
            with pytest.raises(ValueError, match="counts must be at least 1, got 0 for 'a'"):
                version({"a": 0}, 1)


@pytest.fixture(scope="module")
def gpt2():
    """GPT-2's tokenizer from its two files."""
    with data.open_member("gpt2-tokenizer", "vocab.bpe") as file:
        merges = [tuple(line.split(" ")) for line in file.read().decode("utf-8").split("\n")[1:] if line]
    with data.open_member("gpt2-tokenizer", "encoder.json") as file:
        ids = json.load(file)
    return ByteLevelBPE(merges, specials=["<|endoftext|>"], tokens=sorted(ids, key=ids.get))


@pytest.fixture(scope="module")
def small():
    """A tokenizer learnt on a little text."""
    texts = [article.text for article in data.load("encyclopedia")[:5]]
    return ByteLevelBPE.fit(texts, merges=300, specials=["<|end|>", "<|end|><|end|>"])


class TestGPT2:
    def test_known_ids(self, gpt2):
        assert gpt2.encode("Hello world") == [15496, 995]
        assert gpt2.id("<|endoftext|>") == 50_256 == len(gpt2) - 1

    def test_ten_thousand_lines_id_for_id(self, gpt2, tmp_path):
        lines = mixed_lines()
        gpt2.save(tmp_path / "tokenizer.json")
        theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        ranks = {to_bytes(token): number for number, token in enumerate(gpt2.tokens) if token not in gpt2.specials}
        pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
        openai = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        for line, expected in zip(lines, theirs.encode_batch(lines), strict=True):
            ids = gpt2.encode(line)
            assert ids == expected.ids == openai.encode_ordinary(line), line
            assert gpt2.decode(ids) == line


def test_smollm2s_ten_thousand_lines_id_for_id(tmp_path):
    """Tokens, merges and special tokens as the model's file has them; digits stand alone."""
    settings = GGUF(data.member_path("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")).metadata
    tokens, kinds = settings["tokenizer.ggml.tokens"], settings["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in settings["tokenizer.ggml.merges"]]
    specials = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    smollm2 = ByteLevelBPE(merges, pattern="smollm2", specials=specials, tokens=tokens)
    assert smollm2.split("In 1998,") == ["In", "Ġ", "1", "9", "9", "8", ","]
    assert smollm2.specials[:3] == ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    smollm2.save(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    lines = [line for line in mixed_lines() if "<|" not in line]
    for line, expected in zip(lines, theirs.encode_batch(lines), strict=True):
        ids = smollm2.encode(line)
        assert ids == expected.ids, line
        assert smollm2.decode(ids) == line


class TestEncoding:
    @given(text=TEXT)
    def test_any_text_comes_back(self, small, text):
        assert small.decode(small.encode(text)) == text

    @given(raw=st.binary())
    def test_any_bytes_come_back(self, small, raw):
        letters = raw.decode("latin-1").translate(byte_letters())
        assert small.decode_bytes([small.id(letter) for letter in letters]) == raw

    @given(text=st.text("abcdefgh", min_size=1, max_size=3 * _SHORT))
    def test_the_heap_does_what_looking_at_all_pairs_does(self, small, text):
        ids = [small.id(letter) for letter in text]
        assert small._merge_long(list(ids)) == small._merge(list(ids))

    def test_a_hundred_thousand_equal_letters(self, small):
        text = "e" * 100_000
        assert small.decode(small.encode(text)) == text

    def test_half_a_character_is_shown_as_such(self, gpt2):
        (first, *_) = gpt2.encode("😀")
        assert gpt2.decode([first]) == "�"
        assert gpt2.decode_bytes(gpt2.encode("😀")) == "😀".encode()

    def test_split_shows_the_tokens(self, small):
        assert "".join(small.split("the and")) == "theĠand"

    @given(text=st.lists(st.sampled_from(["<|end|>", "<|", "end", "|>", " "])).map("".join))
    def test_special_tokens_cannot_be_forged(self, small, text):
        special = {small.id(token) for token in small.specials}
        assert not special & set(small.encode(text))
        assert small.decode(small.encode(text)) == text

    def test_special_tokens_are_read_when_allowed_the_longest_first(self, small):
        ids = small.encode("a<|end|><|end|>b<|end|>", allow_special=True)
        a, b = small.encode("a"), small.encode("b")
        assert ids == [*a, small.id("<|end|><|end|>"), *b, small.id("<|end|>")]
        assert small.decode(ids) == "ab"
        assert small.decode(ids, skip_special=False) == "a<|end|><|end|>b<|end|>"
        assert small.decode_bytes(ids) == b"ab"

    def test_the_cache_is_bounded_and_changes_nothing(self, small, monkeypatch):
        monkeypatch.setattr("lmcore.text.subword.CACHE_SIZE", 3)
        fresh = ByteLevelBPE(small.merges, specials=small.specials)
        text = "one two three four five one two"
        assert fresh.encode(text) == small.encode(text)
        assert len(fresh._cache) <= 3


class TestFiles:
    def test_saved_and_loaded(self, small, tmp_path):
        small.save(tmp_path / "tokenizer.json")
        again = ByteLevelBPE.load(tmp_path / "tokenizer.json")
        for name in ("tokens", "merges", "specials", "pattern"):
            assert getattr(again, name) == getattr(small, name)

    def test_the_pattern_is_saved(self, tmp_path):
        bpe = ByteLevelBPE.fit(["in 1998 and 1999"], merges=3, pattern="smollm2")
        bpe.save(tmp_path / "tokenizer.json")
        assert ByteLevelBPE.load(tmp_path / "tokenizer.json").pattern == "smollm2"
        theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        for line in mixed_lines()[:400]:
            assert bpe.encode(line) == theirs.encode(line).ids

    @pytest.mark.parametrize("specials", [[], ["<|end|>"]])
    def test_what_hugging_face_writes_is_read_here(self, tmp_path, specials):
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.train_from_iterator(
            [article.text for article in data.load("encyclopedia")[:5]],
            trainers.BpeTrainer(
                vocab_size=700, initial_alphabet=alphabet, special_tokens=specials, show_progress=False
            ),
        )
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        ours = ByteLevelBPE.load(tmp_path / "tokenizer.json")
        assert ours.specials == tuple(specials)
        for line in mixed_lines()[:400]:
            assert ours.encode(line) == tokenizer.encode(line).ids

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model": {"type": "Unigram"}}, "holds a model of type 'Unigram'; this tokenizer is 'BPE'"),
            ({"normalizer": {"type": "NFC"}}, "normalizer is {'type': 'NFC'}; understood is None"),
            ({"pre_tokenizer": {"type": "Whitespace"}}, r"pre_tokenizer is \['Whitespace'\]"),
            ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "add_prefix_space is True"),
        ],
    )
    def test_what_is_not_understood_is_named(self, small, tmp_path, change, message):
        path = tmp_path / "tokenizer.json"
        small.save(path)
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            ByteLevelBPE.load(path)

    def test_what_is_no_tokenizer(self, tmp_path):
        path = tmp_path / "tokenizer.json"
        path.write_text("{", encoding="utf-8")
        with pytest.raises(ValueError, match="is no JSON file"):
            ByteLevelBPE.load(path)
        path.write_text("[]", encoding="utf-8")
        with pytest.raises(ValueError, match="holds a model of type None"):
            ByteLevelBPE.load(path)

    def test_a_byte_fallback_and_a_gap_in_the_ids(self, small, tmp_path):
        path = tmp_path / "tokenizer.json"
        small.save(path)
        content = json.loads(path.read_text(encoding="utf-8"))
        content["model"]["byte_fallback"] = True
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(ValueError, match=r"model\.byte_fallback is True; understood is False"):
            ByteLevelBPE.load(path)
        content["model"]["byte_fallback"] = False
        content["model"]["vocab"]["the"] = 9999
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(ValueError, match="the ids are not 0 … "):
            ByteLevelBPE.load(path)


class TestErrors:
    def test_construction(self):
        with pytest.raises(ValueError, match="merge 0 is 'x' '中', but there is no token '中'"):
            ByteLevelBPE([("x", "中")])
        with pytest.raises(ValueError, match="merge 2 is 'a' 'b', as merge 0 is; list it once"):
            ByteLevelBPE([("a", "b"), ("b", "c"), ("a", "b")])
        with pytest.raises(ValueError, match=r"the token '\\udc80' holds a lone surrogate"):
            ByteLevelBPE([], tokens=["a", "\udc80"])
        with pytest.raises(ValueError, match="pattern must be one of"):
            ByteLevelBPE([], pattern="none")
        with pytest.raises(ValueError, match="the token 'a' is listed twice"):
            ByteLevelBPE([], tokens=["a", "b", "a"])
        with pytest.raises(ValueError, match="specials holds '<s>', which is not among the tokens"):
            ByteLevelBPE([], tokens=["a"], specials=["<s>"])

    def test_use(self, small):
        with pytest.raises(TypeError, match="text must be a string, got bytes"):
            small.encode(b"x")
        with pytest.raises(ValueError, match="id 9999 is outside 0 … "):
            small.decode([9999])
        with pytest.raises(ValueError, match="id -1 is outside"):
            small.decode([-1])
        with pytest.raises(KeyError, match="is not one of the 558 tokens"):
            small.id("no such token")
        with pytest.raises(ValueError, match="there is no token for the byte 'b', which 'b' needs"):
            ByteLevelBPE([], tokens=["a"]).encode("b")
