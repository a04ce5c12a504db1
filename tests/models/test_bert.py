"""BERT: Hugging Face's BertModel and its pretraining heads with gradients, MiniLM's real weights, padding, errors."""

import pytest
import safetensors.torch
import torch
import transformers

from lmcore import data
from lmcore.models.bert import BERT, BERTConfig, BERTForPretraining
from lmcore.models.bert_weights import from_bert
from lmcore.models.loading import load_weights
from lmcore.nn.functional import cross_entropy
from lmcore.text.wordpiece import WordPiece

SMALL = BERTConfig.standard(vocabulary_size=31, d_model=12, layers=2, heads=3, d_ff=17, dropout=0.0, max_length=13)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ids(*shape, seed=0, size=31):
    return torch.randint(size, shape, generator=generator(seed))


def theirs(kind, **settings):
    config = transformers.BertConfig(
        vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=17,
        max_position_embeddings=13, hidden_dropout_prob=0, attention_probs_dropout_prob=0, **settings,
    )  # fmt: skip
    torch.manual_seed(0)
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator(parameter.numel()))
    return model


def padded():
    lengths = torch.tensor([11, 1, 7])
    return ids(3, 11), lengths, (torch.arange(11) < lengths[:, None]).long(), ids(3, 11, seed=2, size=2)


def test_hugging_faces_bert_agrees_over_padding_and_segments():
    peer, ours = theirs("BertModel"), BERT(SMALL)
    load_weights(ours, from_bert(peer.state_dict()))
    x, lengths, mask, segments = padded()
    expected = peer(x, attention_mask=mask, token_type_ids=segments)
    hidden = ours(x, lengths, segments=segments)
    torch.testing.assert_close(hidden[mask.bool()], expected.last_hidden_state[mask.bool()], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.pooled(hidden), expected.pooler_output, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours(x), peer(x).last_hidden_state, rtol=1e-5, atol=1e-5)


def test_hugging_faces_pretraining_agrees_in_losses_and_gradients():
    peer, ours = theirs("BertForPreTraining"), BERTForPretraining(SMALL)
    load_weights(ours, from_bert(peer.state_dict(), pretraining=True))
    x, lengths, mask, segments = padded()
    chosen = (ids(3, 11, seed=3, size=3) == 0) & mask.bool()
    labels, order = torch.where(chosen, ids(3, 11, seed=4), -100), torch.tensor([0, 1, 1])
    loss = peer(x, attention_mask=mask, token_type_ids=segments, labels=labels, next_sentence_label=order).loss
    loss.backward()
    scores, follows = ours(x, lengths, segments=segments, places=chosen)
    mine = cross_entropy(scores, labels[chosen]) + cross_entropy(follows, order)
    mine.backward()
    torch.testing.assert_close(mine, loss, rtol=1e-5, atol=1e-5)
    whole, _ = ours(x, lengths, segments=segments)
    torch.testing.assert_close(whole[chosen], scores)
    gradients = from_bert({name: p.grad for name, p in peer.named_parameters()}, pretraining=True)
    for name, parameter in ours.named_parameters():
        if name != "mlm.table":  # the embedding's, under its other name
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5)


def test_what_stands_beyond_a_row_does_not_matter():
    model = BERT(SMALL, generator=generator()).eval()
    x, lengths, mask, _ = padded()
    other = torch.where(mask.bool(), x, (x + 5) % 31)
    torch.testing.assert_close(model(x, lengths)[mask.bool()], model(other, lengths)[mask.bool()])
    torch.testing.assert_close(model(x, lengths)[2, :7], model(x[2:, :7])[0], rtol=1e-5, atol=1e-6)


def test_shared_layers_are_one():
    sizes = {"vocabulary_size": 31, "d_model": 12, "layers": 5, "heads": 3, "dropout": 0.0}
    count = {shared: sum(p.numel() for p in BERT(BERTConfig.standard(**sizes, shared=shared)).parameters())
             for shared in (False, True)}  # fmt: skip
    model = BERT(BERTConfig.standard(**sizes, shared=True))
    block = sum(p.numel() for p in model.encoder.layers[0].parameters())
    assert count[False] - count[True] == 4 * block
    x = model.dropout(model.norm(model.positions(model.tokens(ids(2, 7))) + model.segments.weight[0]))
    for _ in range(5):
        x = model.encoder.layers[0](x)
    torch.testing.assert_close(model(ids(2, 7)), x)


@torch.no_grad()
def test_real_weights_give_hugging_faces_vectors():
    weights = safetensors.torch.load_file(data.member_path("minilm", "model.safetensors"))
    sizes = {"vocabulary_size": 30_522, "d_model": 384, "layers": 6, "heads": 12, "d_ff": 1536}
    ours = BERT(BERTConfig.standard(**sizes), device="meta").eval()
    load_weights(ours, from_bert(weights))
    config = transformers.BertConfig(
        vocab_size=30_522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    peer = transformers.BertModel(config).eval()
    peer.load_state_dict(weights, strict=False)
    tokenizer = WordPiece.from_vocab_file(data.member_path("minilm", "vocab.txt"))
    texts = ["Tea.", "A longer sentence about trains, and one more clause.", "word " * 300]
    begin, end = tokenizer.id("[CLS]"), tokenizer.id("[SEP]")
    rows = [torch.tensor([begin, *tokenizer.encode(text), end]) for text in texts]
    x = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(x.shape[1]) < lengths[:, None]
    expected = peer(x, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(ours(x, lengths)[mask], expected[mask], rtol=0, atol=1e-5)


def test_errors():
    model = BERT(SMALL)
    with pytest.raises(ValueError, match="14 tokens are more than the model's 13 positions: cut the text"):
        model(ids(2, 14))
    with pytest.raises(ValueError, match=r"lengths\[1\] = 0 is outside 1 … S = 5"):
        model(ids(2, 5), [3, 0])
    with pytest.raises(ValueError, match=r"segments has shape \(2, 4\), must be that of ids, \(2, 5\)"):
        model(ids(2, 5), segments=ids(2, 4))
    with pytest.raises(ValueError, match="nsp looks at the pooler's vector"):
        BERTConfig(vocabulary_size=3, transformer=SMALL.transformer, pooler=False)
    bare = BERT(BERTConfig(vocabulary_size=31, transformer=SMALL.transformer, pooler=False, nsp=False))
    with pytest.raises(ValueError, match="has no pooler"):
        bare.pooled(torch.zeros(1, 2, 12))
    weights = from_bert(theirs("BertModel").state_dict())
    del weights["norm.bias"]
    with pytest.raises(ValueError, match=r"do not fit BERT. Missing: norm.bias."):
        load_weights(model, weights)
