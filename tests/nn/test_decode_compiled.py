"""The parts of the compiled step next to the readable ones: products, codes, attention, norms, activations."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.nn import decode_compiled as compiled
from lmcore.nn.functional import gelu, silu
from lmcore.nn.matvec import TorchLinear, numba_threads
from lmcore.nn.narrow_linear import BFloat16Linear, Int8Linear, quantize_vectors

THREADS = pytest.mark.parametrize("threads", [1, 2])
SHAPE = compiled.Shape(heads=1, kv_heads=1, eps=0.01, centred=True, pre=True, activation=0)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(n=st.integers(1, 70), size=st.sampled_from([1e-3, 1.0, 1e9]), seed=st.integers(0, 9))
def test_codes_are_those_of_vectors(n, size, seed):
    x = size * draw(n, seed=seed)
    x[0] *= 100
    codes, scale = compiled.quantize(x.numpy())
    expected, of_vector = quantize_vectors(x)
    assert codes.dtype == np.int16
    assert scale == pytest.approx(of_vector.item(), rel=1e-6)  # squares are added up in another order
    assert (np.abs(codes - (x / of_vector).numpy()) <= 0.5001).all()
    assert (codes != expected.numpy()).sum() <= 1


def test_codes_of_halves_and_zeros():
    x = np.array([300, *8 * [0]], np.float32)  # rms 100: the scale is 300 / 127
    codes, scale = compiled.quantize(x)
    assert codes[0] == 127
    assert scale == np.float32(300 / 127)
    codes, scale = compiled.quantize(np.zeros(3, np.float32))
    assert not codes.any()
    assert scale > 0


@THREADS
@pytest.mark.parametrize("product", [TorchLinear, BFloat16Linear, Int8Linear])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (5, 131), (67, 576)])
def test_products(threads, product, shape):
    numba_threads(threads)
    made = [product(draw(*shape, seed=seed), draw(shape[0], seed=seed + 2)) for seed in (0, 1)]
    weight = torch.stack([m.weight for m in made])
    weight = weight.view(torch.uint16) if weight.dtype == torch.bfloat16 else weight
    ones = torch.ones(shape[0])
    others = (torch.stack(x).numpy() for x in ([getattr(m, "scale", ones) for m in made], [m.bias for m in made]))
    matrices, x, y = compiled.Matrices(weight.numpy(), *others), draw(shape[1], seed=5), np.empty(shape[0], np.float32)
    for layer in (0, 1):
        compiled.multiply(matrices, layer, x.numpy(), y)
        np.testing.assert_allclose(y, made[layer](x).numpy(), rtol=1e-5, atol=1e-5)


@THREADS
@pytest.mark.parametrize(("heads", "groups", "length"), [(1, 1, 1), (6, 2, 5), (3, 3, 11)])
def test_attention(threads, heads, groups, length):
    numba_threads(threads)
    q, room, y = draw(heads, 5), draw(2, groups, 11, 5, seed=1), np.empty((heads, 5), np.float32)
    keys, values = room
    compiled.attend(q.numpy(), keys.numpy(), values.numpy(), length, y)
    k, v = (x[:, :length].repeat_interleave(heads // groups, dim=0) for x in (keys, values))
    expected = torch.softmax((q[:, None] * k).sum(-1) / 5**0.5, dim=-1)[:, None] @ v
    torch.testing.assert_close(torch.from_numpy(y), expected[:, 0], rtol=1e-5, atol=1e-6)


def test_attention_to_large_scores():
    q, keys, y = np.full((1, 2), 1e3, np.float32), np.eye(2, dtype=np.float32)[None], np.empty((1, 2), np.float32)
    compiled.attend(q, keys, 3 * keys, 2, y)  # both scores are 707, and e⁷⁰⁷ is too large
    assert y.tolist() == [[1.5, 1.5]]


@pytest.mark.parametrize("centred", [False, True])
def test_norms(centred):
    x, parameters = 3 + draw(13), draw(2, 13, seed=1)
    got = x.clone().numpy()
    compiled.normalize(got, parameters.numpy(), SHAPE._replace(centred=centred), got)  # in place, too
    rest = x - x.mean() if centred else x
    expected = rest / (rest.square().mean() + 0.01).sqrt() * parameters[0] + parameters[1]
    torch.testing.assert_close(torch.from_numpy(got), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", compiled.ACTIVATIONS)
def test_activations(name):
    x = torch.linspace(-30, 30, 41)
    functions = {"relu": torch.relu, "gelu": gelu, "gelu_tanh": lambda x: gelu(x, approximate="tanh"), "swiglu": silu}
    place = compiled.ACTIVATIONS.index(name)
    got = torch.tensor([compiled._activate(np.float32(number), place) for number in x.tolist()])
    torch.testing.assert_close(got, functions[name](x), rtol=1e-5, atol=1e-6)
