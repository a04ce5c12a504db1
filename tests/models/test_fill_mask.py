"""Filling gaps: a model whose answer is known, the whole forward pass, Hugging Face's pipeline, errors."""

import pytest
import torch
import transformers

from lmcore.models.bert import BERTConfig, BERTForPretraining, neighbour_bias
from lmcore.models.bert_weights import from_bert
from lmcore.models.fill_mask import fill_mask
from lmcore.models.loading import load_weights
from lmcore.nn.functional import softmax

MASK = 4
SMALL = BERTConfig.standard(vocabulary_size=31, d_model=12, layers=2, heads=3, d_ff=17, dropout=0.3, max_length=13)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def model():
    return BERTForPretraining(SMALL, generator=generator())


def test_by_hand():
    known = model()
    with (
        torch.no_grad()
    ):  # all vectors become zero, so that the bias decides: probabilities 1/6, 2/6, 3/6 of 28, 29, 30
        known.mlm.norm.weight.zero_()
        known.mlm.norm.bias.zero_()
        known.mlm.bias.fill_(-1e9)
        known.mlm.bias[28:] = torch.tensor([1.0, 2.0, 3.0]).log()
    (guesses,) = fill_mask(known, [2, 7, MASK, 3], mask_id=MASK, k=3)
    assert [guess.id for guess in guesses] == [30, 29, 28]
    assert [guess.probability for guess in guesses] == pytest.approx([1 / 2, 1 / 3, 1 / 6])


def test_equals_the_whole_forward_pass_without_dropout_and_leaves_the_mode():
    asked, ids, segments = model().train(), torch.tensor([2, MASK, 7, 11, MASK, 3]), torch.tensor([0, 0, 0, 1, 1, 1])
    found = fill_mask(asked, ids, mask_id=MASK, k=31, segments=segments)
    assert asked.training
    scores, _ = asked.eval()(ids[None], segments=segments[None])
    for place, guesses in zip((1, 4), found, strict=True):
        p = softmax(scores[0, place])
        assert [guess.probability for guess in guesses] == pytest.approx(p.sort(descending=True).values.tolist())
        assert all(p[guess.id].item() == pytest.approx(guess.probability) for guess in guesses)
    assert fill_mask(asked, ids, mask_id=MASK, segments=torch.zeros(6, dtype=torch.long)) != found


def test_hugging_faces_pipeline_guesses_the_same():
    vocab = {f"w{i}": i for i in range(5, 31)} | {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    config = transformers.BertConfig(
        vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=17,
        max_position_embeddings=13,
    )  # fmt: skip
    torch.manual_seed(0)
    peer = transformers.BertForMaskedLM(config).eval()
    fill = transformers.pipeline("fill-mask", model=peer, tokenizer=transformers.BertTokenizer(vocab=vocab), device=-1)
    ours = BERTForPretraining(
        BERTConfig.standard(
            vocabulary_size=31, d_model=12, layers=2, heads=3, d_ff=17, max_length=13, nsp=False, pooler=False
        )
    )
    load_weights(ours, from_bert(peer.state_dict(), pretraining=True))
    (guesses,) = fill_mask(ours, [2, 7, MASK, 11, 3], mask_id=MASK, k=5)
    theirs = fill("w7 [MASK] w11", top_k=5)
    assert [guess.id for guess in guesses] == [answer["token"] for answer in theirs]
    assert [guess.probability for guess in guesses] == pytest.approx([answer["score"] for answer in theirs], rel=1e-4)


def test_errors():
    with pytest.raises(ValueError, match=r"ids holds no 4, the id of \[MASK\]: there is nothing to fill"):
        fill_mask(model(), [2, 7, 3], mask_id=MASK)
    with pytest.raises(ValueError, match=r"ids has shape \(1, 3\), must be \(T,\): one text"):
        fill_mask(model(), [[2, MASK, 3]], mask_id=MASK)
    for k in (0, 32, True, 2.0):
        with pytest.raises(ValueError, match="k must be a whole number in 1 … 31"):
            fill_mask(model(), [2, MASK, 3], mask_id=MASK, k=k)
    with pytest.raises(ValueError, match="14 tokens are more than the model's 13 positions: cut the text"):
        fill_mask(model(), [MASK] * 14, mask_id=MASK)


# ---- heads that look at the neighbours ----


def test_a_head_looks_at_its_neighbour():
    bias = neighbour_bias(6, 7)
    assert bias.shape == (6, 7, 7)
    weights = softmax(10 * bias)
    for t in range(1, 6):
        assert weights[0, t].argmax() == t - 1
        assert weights[1, t].argmax() == t + 1
    assert weights[0, 0].argmax() == 0  # there is nothing on the left
    torch.testing.assert_close(bias[2], bias[0] / 4)
    torch.testing.assert_close(bias[5], bias[1] / 16)


def test_the_bias_reaches_the_attention_and_costs_no_parameter():
    sizes = {"vocabulary_size": 31, "d_model": 12, "layers": 2, "heads": 3, "dropout": 0.0, "max_length": 13}
    ids = torch.randint(31, (2, 7), generator=generator(1))
    plain, near = (
        BERTForPretraining(BERTConfig.standard(**sizes, neighbours=n), generator=generator()) for n in (False, True)
    )
    assert plain.state_dict().keys() == near.state_dict().keys()
    bias = neighbour_bias(3, 7)
    x = plain.bert.norm(plain.bert.positions(plain.bert.tokens(ids)) + plain.bert.segments.weight[0])
    torch.testing.assert_close(near.bert(ids), plain.bert.encoder(x, bias=bias))
    assert (near.bert(ids) - plain.bert(ids)).abs().max() > 1e-4


def test_first_weights_have_the_size_that_is_asked_for():
    sizes = {"vocabulary_size": 307, "d_model": 60, "layers": 2, "heads": 3}
    for std in (0.02, 0.1):
        made = BERTForPretraining(BERTConfig.standard(**sizes, init_std=std), generator=generator())
        for name, parameter in made.named_parameters():
            if parameter.ndim == 2 and parameter.numel() > 3000:
                assert parameter.std().item() == pytest.approx(std, rel=0.1), name
    with pytest.raises(ValueError, match="init_std must be above zero, got 0"):
        BERTConfig.standard(**sizes, init_std=0)
