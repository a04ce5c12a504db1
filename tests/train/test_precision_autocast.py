"""Autocast: torch's results and gradients on CPUs bit for bit, what is kept in float32, the casts' cache, errors."""

import gc
import weakref
from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional as F

from lmcore.models.gpt import GPT, GPTConfig
from lmcore.models.rnn import RecurrentLM, RecurrentLMConfig
from lmcore.train.precision_autocast import KEPT, KEPT_ON_CPU, LOWERED, Autocast

low_types = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


def gpt(kind):
    sizes = {"vocabulary_size": 53, "context": 13, "d_model": 22, "layers": 2}
    if kind == "gpt2":
        config = GPTConfig.gpt2(heads=11, **sizes)
    else:
        config = GPTConfig.llama(heads=11, d_ff=34, tied=True, **sizes)
    return GPT(config, generator=torch.Generator().manual_seed(3))


def run(model, context):
    """Loss, logits and gradients of one batch."""
    draw = torch.Generator().manual_seed(7)
    x, y = torch.randint(53, (2, 5, 13), generator=draw)
    model.zero_grad()
    with context:
        logits = model(x)
        logits = logits[0] if isinstance(logits, tuple) else logits
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
    loss.backward()
    return loss.detach(), logits.detach(), [p.grad for p in model.parameters()]


@low_types
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_it_is_torchs_on_cpus_to_the_last_bit(kind, dtype):
    model = gpt(kind)
    ours, theirs = (
        run(model, context) for context in (Autocast(dtype, kept=KEPT_ON_CPU), torch.autocast("cpu", dtype=dtype))
    )
    assert torch.equal(ours[0], theirs[0])
    assert ours[1].dtype == theirs[1].dtype == dtype
    assert torch.equal(ours[1], theirs[1])
    for mine, other in zip(ours[2], theirs[2], strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, other)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_with_more_in_float32_it_is_near_float32(kind):
    model = gpt(kind)
    ours, full = (run(model, context) for context in (Autocast(), nullcontext()))
    assert not torch.equal(ours[1].float(), full[1])
    assert abs(ours[0] - full[0]) < 1e-2
    for mine, other in zip(ours[2], full[2], strict=True):
        assert (mine - other).norm() < 0.03 * other.norm()


def test_a_recurrent_model_keeps_its_gradients_in_float32():
    model = RecurrentLM(RecurrentLMConfig(vocabulary_size=53), generator=torch.Generator().manual_seed(1))
    loss, _, gradients = run(model, Autocast())
    full, _, others = run(model, nullcontext())
    assert abs(loss - full) < 1e-2
    for mine, other in zip(gradients, others, strict=True):
        assert (mine - other).norm() < 0.05 * other.norm()


def test_which_functions_are_computed_in_what():
    x, y = torch.ones(3, 3), torch.ones(3, 3)
    half = x.bfloat16()
    with Autocast():
        for product in (
            x @ y,
            torch.matmul(x, y),
            x.matmul(y),
            F.linear(x, y),
            torch.einsum("ij,jk->ik", x, y),
            x.mm(y),
        ):
            assert product.dtype == torch.bfloat16
        for delicate in (
            half.softmax(-1),
            torch.softmax(half, -1),
            F.softmax(half, -1),
            half.exp(),
            half.sum(),
            half**2,
        ):
            assert delicate.dtype == torch.float32
        assert F.layer_norm(half, half.shape[1:]).dtype == F.mse_loss(half, half).dtype == torch.float32
        assert (half + half).dtype == F.gelu(half).dtype == torch.bfloat16
        assert (half + x).dtype == torch.cat([half, x]).dtype == torch.float32
        assert (x.double() @ y.double()).dtype == torch.float64
        assert (x.long() @ y.long()).dtype == torch.int64
    assert (x @ y).dtype == torch.float32


def test_on_cpus_torch_leaves_softmax_and_norms_as_they_come():
    half = torch.ones(3, 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = [torch.softmax(half, -1).dtype, F.layer_norm(half, (3,)).dtype, F.mse_loss(half, half).dtype]
    with Autocast(kept=KEPT_ON_CPU):
        ours = [torch.softmax(half, -1).dtype, F.layer_norm(half, (3,)).dtype, F.mse_loss(half, half).dtype]
    assert ours == theirs == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert KEPT_ON_CPU < KEPT
    assert not KEPT & LOWERED


def test_a_weight_is_cast_once_in_a_block():
    w = torch.ones(3, 3, requires_grad=True)
    x = torch.ones(2, 3)
    context = Autocast()
    with context:
        F.linear(x, w)
        (cast,) = [cast for _, cast in context._casts.values()]
        F.linear(x, w)
        assert [kept is cast for _, kept in context._casts.values()] == [True]
        with torch.no_grad():
            F.linear(x, w)  # without a graph, and so another one
        assert len(context._casts) == 2
        y = F.linear(x, w)
    assert not context._casts
    y.float().sum().backward()
    assert torch.equal(w.grad, torch.full((3, 3), 2.0))


def test_nested_blocks_and_errors_inside():
    w = torch.ones(2, 2, requires_grad=True)
    context = Autocast()

    def fail(w):
        with context:
            w @ w
            with context:
                w @ w
            assert len(context._casts) == 1  # the outer block goes on
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail(w)
    assert not context._casts
    assert (w @ w).dtype == torch.float32
    seen = weakref.ref(w)
    del w
    gc.collect()
    assert seen() is None


def test_errors():
    with pytest.raises(ValueError, match=r"must be torch\.bfloat16 or torch\.float16, got torch\.float32"):
        Autocast(torch.float32)
    with pytest.raises(TypeError, match="kept must be a set of names, got the string 'softmax'"):
        Autocast(kept="softmax")
