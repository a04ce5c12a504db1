"""Rounded keys and values: bounds of the error, growth one by one, order of rows, and decoding with a real stack."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.compress.kv_cache import QuantizedKVCache, quantized_decoder_cache
from lmcore.models.gpt import GPT, GPTConfig
from lmcore.nn.kv_cache import KVCache


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_two_bits_by_hand():
    cache = QuantizedKVCache(bits=2, group=3)
    keys = torch.tensor([[0.0, 90.0], [1.4, 91.0], [3.0, 93.0]]).view(1, 1, 3, 2)
    values = torch.tensor([[0.0, 3.0, 1.6], [5.0, 5.0, 5.0], [-3.0, 0.0, -0.9]]).view(1, 1, 3, 3)
    k, v = cache.append(keys, values)
    assert k[0, 0].tolist() == [[0, 90], [1, 91], [3, 93]]  # channel by channel: 1.4 → 1
    assert v[0, 0].tolist() == [[0, 3, 2], [5, 5, 5], [-3, 0, -1]]  # position by position
    by_token = QuantizedKVCache(bits=2, group=3, keys="token")
    k, _ = by_token.append(keys[:, :, [0]], values[:, :, [0]])
    assert torch.equal(k, keys[:, :, [0]])  # waits
    k, _ = by_token.append(keys[:, :, 1:], values[:, :, 1:])
    torch.testing.assert_close(k, keys)  # a grid from 1.4 to 91 has both


@given(st.integers(1, 40), st.sampled_from([1, 4, 7]), st.integers(2, 8), st.booleans(), st.integers(0, 99))
def test_off_by_half_a_step_at_most(length, group, bits, by_channel, seed):
    k, v = draw(3, 2, length, 5, seed=seed), draw(3, 2, length, 3, seed=seed + 1)
    cache = QuantizedKVCache(bits=bits, group=group, keys="channel" if by_channel else "token")
    found = cache.append(k, v)
    full = length // group * group
    for x, y, channel in ((k, found[0], by_channel), (v, found[1], False)):
        assert torch.equal(x[:, :, full:], y[:, :, full:])
        for start in range(0, full, group):
            part = x[:, :, start : start + group]
            low, high = torch.aminmax(part, dim=2 if channel else 3, keepdim=True)
            bound = (high - low) / (2**bits - 1) / 2
            assert ((y[:, :, start : start + group] - part).abs() <= bound * 1.001 + 1e-6).all()


@pytest.mark.parametrize("keys", ["channel", "token"])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_one_by_one_is_all_at_once(keys, bits):
    k, v = draw(2, 3, 29, 5), draw(2, 3, 29, 7, seed=1)
    whole = QuantizedKVCache(bits=bits, keys=keys, group=4).append(k, v)
    cache = QuantizedKVCache(bits=bits, keys=keys, group=4)
    start = 0
    for step in (1, 1, 5, 1, 9, 2, 10):
        pair = cache.append(k[:, :, start : start + step], v[:, :, start : start + step])
        start += step
        assert cache.length == pair[0].shape[2] == start
    torch.testing.assert_close(pair, whole)
    assert torch.equal(cache.keys, pair[0])
    assert torch.equal(cache.values, pair[1])


def test_rows_are_reordered():
    k, v = draw(3, 2, 11, 5), draw(3, 2, 11, 5, seed=1)
    rows = torch.tensor([2, 0, 0, 1])
    cache, expected = QuantizedKVCache(bits=4, group=4), QuantizedKVCache(bits=4, group=4)
    cache.append(k, v)
    cache.reorder(rows)
    torch.testing.assert_close((cache.keys, cache.values), expected.append(k[rows], v[rows]))
    more = draw(4, 2, 6, 5, seed=2)
    torch.testing.assert_close(cache.append(more, more), expected.append(more, more))
    with pytest.raises(ValueError, match="rows holds 4, outside 0 … 3"):
        cache.reorder(torch.tensor([4]))


def test_bytes():
    k = draw(2, 3, 64, 16)
    cache = QuantizedKVCache(bits=4, group=32)
    cache.append(k, k)
    numbers, groups = 2 * 3 * 64 * 16, 2 * 3 * 2
    assert cache.nbytes == 2 * numbers // 2 + groups * 16 * 8 + 2 * 3 * 64 * 8  # codes; grids of keys, of values
    cache.append(k[:, :, :5], k[:, :, :5])
    assert cache.nbytes == 2 * numbers // 2 + groups * 16 * 8 + 2 * 3 * 64 * 8 + 2 * 4 * 2 * 3 * 5 * 16
    assert QuantizedKVCache().nbytes == 0


def test_keys_with_a_large_channel_want_a_grid_for_each_channel():
    k = draw(1, 2, 64, 16)
    k[..., 3] = 50 + k[..., 3]
    errors = {}
    for keys in ("channel", "token"):
        found, _ = QuantizedKVCache(bits=4, keys=keys).append(k, k)
        errors[keys] = (found - k).square().mean()
    assert errors["channel"] < 0.01 * errors["token"]


@pytest.mark.parametrize("keys", ["channel", "token"])
def test_decoding(keys):
    config = GPTConfig.llama(vocabulary_size=37, context=40, d_model=24, d_ff=40, layers=2, heads=6, kv_heads=2)
    model = GPT(config, generator=torch.Generator().manual_seed(0)).eval()
    ids = torch.randint(37, (3, 31), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, errors = model(ids), {}
        for bits in (2, 4, 8):
            cache = quantized_decoder_cache(2, bits=bits, keys=keys, group=4)
            y = torch.cat(
                [model(ids[:, :7], cache=cache), *(model(ids[:, [t]], cache=cache) for t in range(7, 31))], dim=1
            )
            errors[bits] = (y - expected).square().mean() / expected.var()
    assert cache.length == 31
    assert errors[8] < 1e-3 * errors[2]
    assert errors[8] < 1e-4 < errors[2]
    assert errors[8] < 0.1 * errors[4]


def test_half_precision_comes_back_in_half_precision():
    k = draw(1, 2, 9, 4).bfloat16()
    keys, _ = QuantizedKVCache(group=4).append(k, k)
    assert keys.dtype == torch.bfloat16
    assert (keys - k).abs().max() < 0.05


def test_a_plain_cache_has_the_same_interface():
    assert issubclass(QuantizedKVCache, KVCache)
    cache = quantized_decoder_cache(3)
    assert cache.length == 0
    assert [type(memory) for _, memory in cache.layers] == [KVCache] * 3


def test_errors():
    with pytest.raises(ValueError, match="keys must be one of channel, token, got 'head'"):
        QuantizedKVCache(keys="head")
    with pytest.raises(ValueError, match="bits must be a whole number from 2 to 8, got 16"):
        QuantizedKVCache(bits=16)
    with pytest.raises(ValueError, match="group must be a whole number of at least 1, got 0"):
        QuantizedKVCache(group=0)
    with pytest.raises(ValueError, match="the cache is empty"):
        _ = QuantizedKVCache().keys
    cache = QuantizedKVCache(group=2)
    cache.append(draw(1, 2, 4, 3), draw(1, 2, 4, 3))
    with pytest.raises(ValueError, match=r"k is \(1, 2, 1, 5\)"):
        cache.append(draw(1, 2, 1, 5), draw(1, 2, 1, 3))
    with pytest.raises(ValueError, match="a cache has no gradients"):
        cache.append(draw(1, 2, 1, 3).requires_grad_(), draw(1, 2, 1, 3))
    with pytest.raises(ValueError, match="NaN or infinite"):
        cache.append(torch.full((1, 2, 2, 3), torch.inf), draw(1, 2, 2, 3))
