"""Bytes of training: by hand, predicted against counted for every way of training, errors."""

from functools import partial

import pytest
import torch

from lmcore.floats.formats import BF16, E4M3, FP16, FP32, TF32
from lmcore.train.optim import SGD, Adam, AdamW
from lmcore.train.precision_master import MasterWeights, StochasticWeights
from lmcore.train.precision_memory import counted_bytes, predicted_bytes


@pytest.mark.parametrize(
    ("formats", "bytes_each"),
    [
        ({}, 16),  # float32 with Adam: 4 + 4 + 8
        ({"state": ()}, 8),
        ({"weights": BF16, "gradients": BF16, "copies": FP32}, 16),  # Rajbhandari et al. 2020: 2 + 2 + 12
        ({"weights": FP16, "copies": FP32}, 18),
        ({"weights": BF16, "gradients": BF16}, 12),
        ({"weights": E4M3, "gradients": E4M3, "state": (BF16, BF16)}, 6),
    ],
)
def test_by_hand(formats, bytes_each):
    assert predicted_bytes(1013, **formats).total == 1013 * bytes_each


def train(model, optimizer):
    """Two steps, and the backward pass of a third."""
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(2, 7, dtype=model[0].weight.dtype)).float().square().sum().backward()
        optimizer.step()
    optimizer.zero_grad()
    model(torch.ones(2, 7, dtype=model[0].weight.dtype)).float().square().sum().backward()


ADAM = partial(AdamW, lr=0.01)


@pytest.mark.parametrize(
    ("dtype", "make", "formats"),
    [
        (torch.float32, ADAM, {}),
        (torch.float32, partial(SGD, lr=0.01), {"state": ()}),
        (torch.float32, partial(SGD, lr=0.01, momentum=0.9), {"state": (FP32,)}),
        (torch.bfloat16, partial(Adam, lr=0.01), {"weights": BF16, "gradients": BF16, "state": (BF16, BF16)}),
        (torch.bfloat16, lambda params: MasterWeights(params, ADAM), {"weights": BF16, "copies": FP32}),
        (torch.float16, lambda params: MasterWeights(params, ADAM), {"weights": FP16, "copies": FP32}),
        (torch.bfloat16, lambda params: StochasticWeights(params, ADAM), {"weights": BF16, "gradients": BF16}),
    ],
)
def test_predicted_is_counted(dtype, make, formats):
    model = torch.nn.Sequential(torch.nn.Linear(7, 11), torch.nn.Linear(11, 3)).to(dtype)
    optimizer = make(list(model.parameters()))
    train(model, optimizer)
    assert counted_bytes(optimizer) == predicted_bytes(7 * 11 + 11 + 11 * 3 + 3, **formats)


def test_torchs_adam_keeps_a_step_count_in_a_tensor():
    model = torch.nn.Sequential(torch.nn.Linear(7, 11), torch.nn.Linear(11, 3))
    optimizer = torch.optim.Adam(model.parameters())
    train(model, optimizer)
    assert counted_bytes(optimizer).state == predicted_bytes(124).state + 4 * 4


def test_errors():
    with pytest.raises(ValueError, match="parameters must be a whole number of at least 1, got 0"):
        predicted_bytes(0)
    with pytest.raises(ValueError, match="TF32 has 19 bits"):
        predicted_bytes(3, weights=TF32)
