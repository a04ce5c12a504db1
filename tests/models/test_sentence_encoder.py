"""Sentence vectors: by hand, as sentence-transformers on MiniLM, 16 and 8 bits, order and batches, cutting, errors."""

import logging
import warnings

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from lmcore import data
from lmcore.models import sentence_encoder
from lmcore.models.bert import BERT, BERTConfig
from lmcore.models.bert_packed import PackedBERT
from lmcore.models.bert_weights import from_bert
from lmcore.models.loading import load_weights
from lmcore.models.sentence_encoder import SentenceEncoder, has_bfloat16, has_int8
from lmcore.nn import fused_linear
from lmcore.nn.transformer import TransformerConfig
from lmcore.text.wordpiece import WordPiece

SIZES = {"vocabulary_size": 31, "d_model": 12, "layers": 2, "heads": 3, "d_ff": 17, "max_length": 13}


class Letters:
    """Each letter is a piece."""

    def encode(self, text):
        return [ord(letter) - ord("a") + 3 for letter in text]

    def id(self, token):
        return {"[CLS]": 1, "[SEP]": 2}[token]


def bert(**changes):
    model = BERT(BERTConfig.standard(**{**SIZES, **changes}), generator=torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    return model


MODEL = bert()
ENCODER = SentenceEncoder(MODEL, Letters(), batch_tokens=29)


@pytest.fixture(scope="module")
def minilm():
    sizes = {"vocabulary_size": 30_522, "d_model": 384, "layers": 6, "heads": 12, "d_ff": 1536}
    model = BERT(BERTConfig.standard(**sizes), device="meta").eval()
    load_weights(model, from_bert(load_file(data.member_path("minilm", "model.safetensors"))))
    return model, WordPiece.from_vocab_file(data.member_path("minilm", "vocab.txt"))


@pytest.fixture(scope="module")
def texts():
    words = " ".join(article.text[:2000] for article in data.load("encyclopedia")[:5]).split()
    rng = np.random.default_rng(0)
    starts, lengths = rng.integers(len(words) - 97, size=23), rng.integers(1, 97, size=23)
    found = [" ".join(words[a : a + n]) for a, n in zip(starts, lengths, strict=True)]
    return [*found, "", "Tea.", "a naïve 中文 reader", found[0]]


# ---- hand-worked ----


class Table:
    """A model whose token vectors are known: id 1 gives (3, 0), id 2 (0, 3), id 3 (0, 9), id 4 (6, 0)."""

    device = torch.device("cpu")
    table = torch.tensor([[0.0, 0], [3, 0], [0, 3], [0, 9], [6, 0]])

    def __call__(self, texts):
        return torch.cat([self.table[ids] for ids in texts])


def by_hand():
    encoder = SentenceEncoder(bert(d_model=2, heads=1), Letters(), batch_tokens=5)
    encoder._read = Table()
    return encoder


def test_pooling_by_hand():
    # "a": [CLS] a [SEP], mean of (3, 0), (0, 9), (0, 3) is (1, 4); "": (3, 0), (0, 3); "ab": (9, 12) / 4 = 3 (3, 4) / 4
    found = by_hand().encode(["a", "", "ab"])
    np.testing.assert_allclose(found, [[1 / 17**0.5, 4 / 17**0.5], [0.5**0.5, 0.5**0.5], [0.6, 0.8]], rtol=1e-6)
    assert found.dtype == np.float32


def test_token_vectors_by_hand():
    found = by_hand().token_vectors(["ab", "", "b"])
    assert [x.tolist() for x in found] == [[[0, 9], [6, 0]], [], [[6, 0]]]
    assert [x.shape for x in found] == [(2, 2), (0, 2), (1, 2)]
    found = by_hand().token_vectors(["b"], specials=True)
    assert found[0].tolist() == [[3, 0], [6, 0], [0, 3]]


def test_batches_hold_so_many_tokens():
    encoder, seen = by_hand(), []
    encoder._read = lambda texts: seen.append([len(ids) for ids in texts]) or Table()(texts)
    encoder.encode(["ab", "a", "", "", "abab", ""])  # 4, 3, 2, 2, 6, 2 tokens, at most 5 at once
    assert seen == [[2, 2], [2, 3], [4], [6]]


# ---- oracle ----


def test_packed_as_padded():
    rows = [[5, 7, 2], [3], [11], [4, 6, 8, 9, 10], [30] * 13]
    hidden = MODEL(torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True), [3, 1, 1, 5, 13])
    expected = torch.cat([h[: len(row)] for h, row in zip(hidden, rows, strict=True)])
    torch.testing.assert_close(PackedBERT(MODEL)(rows), expected, rtol=1e-5, atol=1e-5)
    half = PackedBERT(MODEL, dtype=torch.bfloat16)(rows)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0, atol=0.1)


def test_shared_layers():
    model = bert(shared=True)
    expected = model(torch.tensor([[5, 7, 2]]))[0]
    torch.testing.assert_close(PackedBERT(model)([[5, 7, 2]]), expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def sentence_transformer(tmp_path):
    """MiniLM as the peer has it; quiet while it is made."""
    logging.disable(logging.WARNING)
    config = transformers.BertConfig(
        vocab_size=30_522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    peer = transformers.BertModel(config).eval()
    peer.load_state_dict(load_file(data.member_path("minilm", "model.safetensors")), strict=False)
    peer.save_pretrained(tmp_path)
    transformers.BertTokenizer(str(data.member_path("minilm", "vocab.txt"))).save_pretrained(tmp_path)
    modules = [Transformer(str(tmp_path)), Pooling(384, "mean"), Normalize()]
    yield SentenceTransformer(modules=modules, device="cpu")
    logging.disable(logging.NOTSET)


def test_as_sentence_transformers(minilm, texts, sentence_transformer):
    theirs = sentence_transformer
    expected = theirs.encode(texts, batch_size=7, show_progress_bar=False)
    encoder = SentenceEncoder(*minilm, batch_tokens=503)
    np.testing.assert_allclose(encoder.encode(texts), expected, rtol=0, atol=1e-5)
    tokens = theirs.encode(texts, output_value="token_embeddings", batch_size=7, show_progress_bar=False)
    found = encoder.token_vectors(texts, specials=True)
    for mine, yours in zip(found, tokens, strict=True):
        np.testing.assert_allclose(mine, yours[: len(mine)], rtol=0, atol=1e-4)
    inner = encoder.token_vectors(texts)
    assert all(np.array_equal(a, b[1:-1]) for a, b in zip(inner, found, strict=True))
    assert [len(x) for x in inner] == [len(minilm[1].encode(text)) for text in texts]


@pytest.mark.filterwarnings("ignore:this CPU cannot multiply bfloat16")
def test_bfloat16_turns_vectors_by_little(minilm, texts):
    exact = SentenceEncoder(*minilm).encode(texts)
    half = SentenceEncoder(*minilm, dtype=torch.bfloat16).encode(texts)
    assert half.dtype == np.float32
    cosines = (exact * half).sum(axis=1)
    assert cosines.min() > 0.9995
    assert not np.array_equal(exact, half)


@pytest.mark.filterwarnings("ignore:this CPU cannot multiply int8")
def test_int8_turns_vectors_by_little(minilm, texts):
    exact = SentenceEncoder(*minilm).encode(texts)
    small = SentenceEncoder(*minilm, dtype=torch.int8).encode(texts)
    assert small.dtype == np.float32
    cosines = (exact * small).sum(axis=1)
    assert cosines.mean() > 0.998
    assert cosines.min() > 0.985  # a text of two or three tokens, whose errors no mean evens out
    assert not np.array_equal(exact, small)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_threads_change_nothing(minilm, texts, dtype):
    """Pieces of the row go to threads. With int8, a last bit that differs in attention may move a code by one."""
    before, found = torch.get_num_threads(), {}
    encoder = SentenceEncoder(*minilm, dtype=dtype)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            found[threads] = encoder.encode(texts)
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
    for threads in (2, 3):
        np.testing.assert_allclose(found[threads], found[1], rtol=0, atol=1e-5 if dtype == torch.float32 else 2e-3)


def test_without_the_one_pass_all_is_the_same(minilm, texts, monkeypatch):
    fused = SentenceEncoder(*minilm).encode(texts)
    monkeypatch.setattr(fused_linear, "_packed", lambda weight, bias: None)
    np.testing.assert_allclose(SentenceEncoder(*minilm).encode(texts), fused, rtol=0, atol=1e-5)


# ---- property ----

TEXTS = st.lists(st.text(alphabet="abcz", max_size=11), max_size=17)


@given(TEXTS, st.randoms(use_true_random=False), st.integers(1, 61))
@settings(max_examples=30)
def test_neither_order_nor_batches_change_a_vector(texts, random, batch_tokens):
    order = list(range(len(texts)))
    random.shuffle(order)
    other = SentenceEncoder(MODEL, Letters(), batch_tokens=batch_tokens)
    found, again = ENCODER.encode(texts), other.encode([texts[i] for i in order])
    np.testing.assert_allclose(again, found[order], rtol=0, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    alone = [ENCODER.encode([text])[0] for text in texts]
    np.testing.assert_allclose(found, np.array(alone).reshape(-1, 12), rtol=0, atol=2e-6)
    tokens = other.token_vectors(texts, specials=True)
    for vector, rows in zip(found, tokens, strict=True):
        mean = rows.mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), rtol=0, atol=2e-6)


def test_no_text():
    assert ENCODER.encode([]).shape == (0, 12)
    assert ENCODER.token_vectors([]) == []


def test_weights_learnt_later_are_not_seen():
    model = bert()
    encoder = SentenceEncoder(model, Letters())
    before = encoder.encode(["abc"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(encoder.encode(["abc"]), before)


def test_cutting_says_how_much_is_lost():
    with pytest.warns(UserWarning, match="2 of 3 texts were cut, 5 tokens lost") as caught:
        found = ENCODER.encode(["abcabcabcab" + "zzz", "a", "abcabcabcab" + "zz"], truncate=True)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(found[[0, 2]], ENCODER.encode(["abcabcabcab"] * 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ENCODER.encode(["abcabcabcab"], truncate=True)  # 11 and two more are 13: it fits


# ---- errors ----


def test_errors_of_the_encoder(monkeypatch):
    message = r"texts\[1\] has 14 tokens, the model 13 positions, and 1 of 2 texts are too long: split them, or pass"
    for method in (ENCODER.encode, ENCODER.token_vectors):
        with pytest.raises(ValueError, match=message):
            method(["a", "abcabcabcabc"])
        with pytest.raises(TypeError, match=r"texts is one string; pass a list of texts, \[text\]"):
            method("abc")
        with pytest.raises(TypeError, match=r"texts\[1\] must be a string, got int"):
            method(["a", 5])
    with pytest.raises(
        ValueError, match=r"must be one of torch.float32, torch.bfloat16, torch.int8; got torch.float16"
    ):
        SentenceEncoder(MODEL, Letters(), dtype=torch.float16)
    with pytest.raises(ValueError, match="batch_tokens must be a whole number of at least 1, got 0"):
        SentenceEncoder(MODEL, Letters(), batch_tokens=0)
    monkeypatch.setattr(sentence_encoder, "has_bfloat16", lambda: False)
    with pytest.warns(RuntimeWarning, match="this CPU cannot multiply bfloat16"):
        SentenceEncoder(MODEL, Letters(), dtype=torch.bfloat16)
    monkeypatch.setattr(sentence_encoder, "has_int8", lambda: False)
    with pytest.warns(RuntimeWarning, match="this CPU cannot multiply int8: float32 is faster here"):
        SentenceEncoder(MODEL, Letters(), dtype=torch.int8)


@pytest.mark.parametrize(
    ("capability", "answers"),
    [
        (None, (False, False)),
        ("avx512_bf16", (True, False)),
        ("amx_bf16", (True, False)),
        ("avx512_vnni", (False, True)),
        ("avx_vnni", (False, True)),
        ("amx_int8", (False, True)),
    ],
)
def test_the_machine_is_asked(monkeypatch, capability, answers):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True, "avx2": True, "avx512_f": True})
    assert (has_bfloat16(), has_int8()) == answers


def test_errors_of_the_packed_model():
    found = {"order": "pre", "norm": "rms", "activation": "relu", "bias": False}
    for name, value in found.items():
        stack = {"d_model": 12, "heads": 3, "d_ff": 17, "layers": 2, "order": "post", "activation": "gelu", name: value}
        config = BERTConfig(vocabulary_size=31, transformer=TransformerConfig(**stack))
        with pytest.raises(ValueError, match=f"the model's {name} is {value!r}; this is for"):
            PackedBERT(BERT(config))
    with pytest.raises(ValueError, match="the model's neighbours is True; this is for False"):
        PackedBERT(bert(neighbours=True))
    packed = PackedBERT(MODEL)
    with pytest.raises(ValueError, match=r"texts must have 1 … 13 tokens each, got \[3, 0\]"):
        packed([[1, 2, 3], []])
    with pytest.raises(ValueError, match=r"1 … 13 tokens each, got no text"):
        packed([])
    with pytest.raises(ValueError, match=r"1 … 13 tokens each, got \[14\]"):
        packed([[5] * 14])
    with pytest.raises(ValueError, match="ids must be 0 … 30, got 1 … 31"):
        packed([[1, 31]])
