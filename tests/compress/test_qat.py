"""Quantisation-aware training: gradients by hand and against torch, conversion bit for bit, and that it pays."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.compress.affine import Scheme, fake_quantize
from lmcore.compress.linear import QuantizedLinear
from lmcore.compress.qat import FakeQuantizedLinear, convert, prepare, straight_through
from lmcore.compress.replace import matrices, quantize_weights
from lmcore.models.gpt import GPT, GPTConfig
from lmcore.models.seq2seq_transformer import TransformerSeq2Seq, TransformerSeq2SeqConfig
from lmcore.nn.transformer import TransformerConfig


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed))


def ids(*shape, seed=0):
    return torch.randint(0, 11, shape, generator=generator(seed))


def gpt():
    config = GPTConfig.gpt2(vocabulary_size=11, context=13, d_model=12, layers=2, heads=3, dropout=0.1)
    return GPT(config, generator=generator())


def seq2seq():
    stack = TransformerConfig(d_model=12, heads=3, d_ff=20, layers=1, dropout=0.1)
    config = TransformerSeq2SeqConfig(source_size=11, target_size=11, transformer=stack)
    return TransformerSeq2Seq(config, generator=generator())


MODELS = {
    "gpt": (gpt, lambda m: m(ids(2, 7))),
    "seq2seq": (seq2seq, lambda m: m(ids(2, 7), torch.tensor([7, 5]), ids(2, 5, seed=1))),
}


# ---- the estimator ----


def test_gradient_by_hand():
    x = torch.tensor([0.4, -0.6, 5.0, -3.4], requires_grad=True)  # steps of 1 from −3 to 3
    (straight_through(x, Scheme(bits=3), low=-3.0, high=3.0) * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [1.0, 2.0, 0.0, 4.0]  # −3.4 is nearer to −3 than half a step, 5 is not


@given(st.integers(2, 8), st.booleans(), st.integers(0, 100))
def test_values_are_those_of_fake_quantize(bits, symmetric, seed):
    x, scheme = normal(3, 6, seed=seed).requires_grad_(), Scheme(bits=bits, symmetric=symmetric)
    y = straight_through(x, scheme)
    assert torch.equal(y, fake_quantize(x.detach(), scheme))
    y.backward(weight := normal(3, 6, seed=seed + 1))
    assert torch.equal(x.grad, weight)


def test_gradient_is_torchs():
    x = (3 * normal(5, 13)).requires_grad_()
    ours = straight_through(x, Scheme(bits=4, symmetric=False, per="tensor"), low=-2.0, high=5.5)
    theirs = torch.fake_quantize_per_tensor_affine(x, 0.5, 4, 0, 15)
    torch.testing.assert_close(ours, theirs)
    assert torch.equal(*(torch.autograd.grad(y.sum(), x)[0] for y in (ours, theirs)))
    assert (
        0 < (torch.autograd.grad(straight_through(x, Scheme(bits=2), low=-1.0, high=1.0).sum(), x)[0] == 0).sum() < 65
    )


# ---- the layer ----


def test_one_step_by_hand():
    layer = FakeQuantizedLinear(torch.tensor([[3.0, 0.4]]), torch.tensor([1.0]), Scheme(bits=3))
    x = torch.tensor([2.0, 5.0])
    layer(x).backward()
    assert layer.weight.grad.tolist() == [[2.0, 5.0]]  # as if nothing had been rounded
    assert layer.bias.grad.tolist() == [1.0]
    with torch.no_grad():
        layer.weight += 0.05 * layer.weight.grad  # 3.1, 0.65: too little for a step would be 0.45, this is enough
    assert layer(x).item() == pytest.approx(2 * 3.1 + 5 * 3.1 / 3 + 1)


def test_rounded_inputs_by_hand():
    layer = FakeQuantizedLinear(torch.tensor([[1.0, 1.0]]), None, Scheme(), activations=Scheme(bits=3))
    x = torch.tensor([3.0, 0.4], requires_grad=True)  # 3, 0
    for each in (layer, layer.quantized()):
        assert each(x).item() == pytest.approx(3.0)
    layer(x).backward()
    assert x.grad.tolist() == pytest.approx([1.0, 1.0])


def test_rows_share_the_grid_of_the_whole_tensor():
    layer = FakeQuantizedLinear(normal(5, 7) * torch.arange(1.0, 6)[:, None], None, Scheme(bits=3, per="tensor"))
    x = normal(3, 7, seed=1)
    torch.testing.assert_close(layer(x, slice(1, 3)), layer(x)[:, 1:3])
    assert layer(torch.zeros(0, 7)).shape == (0, 5)


# ---- models ----


@pytest.mark.parametrize(
    "scheme", [Scheme(bits=3), Scheme(bits=4, symmetric=False, per="group", group_size=4)], ids=str
)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_conversion_gives_the_same_outputs_to_the_last_bit(name, scheme):
    make, run = MODELS[name]
    prepared = prepare(make(), scheme).eval()
    converted = convert(prepared)
    assert torch.equal(run(converted), run(prepared))
    layers = [m for m in converted.modules() if isinstance(m, QuantizedLinear)]
    assert len(layers) == sum(not m.tied for m in matrices(make()).values())
    assert not any(isinstance(m, FakeQuantizedLinear) for m in converted.modules())


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_conversion_with_rounded_activations(name):
    make, run = MODELS[name]
    prepared = prepare(make(), Scheme(), activations=Scheme()).eval()
    before, after = run(prepared), run(convert(prepared))
    assert (after - before).norm() < 0.01 * before.norm()  # a number on the edge may be rounded the other way


def test_preparing_at_eight_bits_changes_little_and_the_model_not_at_all():
    model = gpt().eval()
    state = copy.deepcopy(model.state_dict())
    prepared = prepare(model, Scheme())
    assert (prepared(ids(2, 7)) - model(ids(2, 7))).norm() < 0.02 * model(ids(2, 7)).norm()
    prepared(ids(2, 7)).sum().backward()
    with torch.no_grad():
        for p in prepared.parameters():
            assert p.grad is not None
            p += 1
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_tied_weights_stay_tied():
    prepared = prepare(gpt(), Scheme(bits=4))
    assert prepared.output.weight is prepared.embedding.weight
    names = [name for name, _ in prepared.named_parameters()]
    assert "decoder.layers.0.self_attention.in_proj.weight" in names
    assert sum(p.numel() for p in prepared.parameters()) == sum(p.numel() for p in gpt().parameters())


def train(model, x, y, steps, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("bits", [2, 3])
def test_it_beats_rounding_afterwards(bits):
    x = normal(301, 7)
    y = torch.sin(x[:, :1] * 2) + x[:, 1:2] * x[:, 2:3]
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(7, 31), torch.nn.ReLU(), torch.nn.Linear(31, 31), torch.nn.ReLU(),
                                torch.nn.Linear(31, 1))  # fmt: skip
    train(model, x, y, 300, 0.01)
    scheme = Scheme(bits=bits)
    after = quantize_weights(model, scheme)
    aware = convert(train(prepare(model, scheme), x, y, 300, 0.003))
    with torch.no_grad():
        exact, rounded, learned = (torch.nn.functional.mse_loss(m(x), y).item() for m in (model, after, aware))
    assert exact < learned < 0.5 * rounded


# ---- errors ----


def test_errors():
    with pytest.raises(ValueError, match="Linear has no FakeQuantizedLinear: was it made by prepare"):
        convert(torch.nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"^0: quantised activations need a weight with one grid per row"):
        prepare(torch.nn.Sequential(torch.nn.Linear(4, 2)), Scheme(per="group", group_size=2), activations=Scheme())
    prepared = prepare(torch.nn.Sequential(torch.nn.Linear(4, 2)), Scheme())
    with torch.no_grad():
        prepared[0].weight[0, 1] = torch.inf
    with pytest.raises(ValueError, match=r"^0: 1 of 8 numbers of x are NaN or infinite"):
        convert(prepared)
