"""Layers that are made without a generator draw from torch's global one: the same numbers in each run of a test."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    torch.manual_seed(0)
