"""Our attention and Transformer blocks against torch's layers, and three ways to compute attention against length.

Both sides hold the same weights, take the same batch and are asserted to agree. They run in turns, and each ratio is
the median, over the turns, of torch's time over ours: above 1 ours is faster. "train" is forward and backward, "eval"
forward under no_grad, where torch's TransformerEncoderLayer leaves Python for one fused operator, its fast path
(torch._transformer_encoder_layer_fwd), and MultiheadAttention likewise (torch._native_multi_head_attention); the lines
"eval, no fast path" switch that off. On a busy machine, run it with OMP_NUM_THREADS=1.
"""

import statistics
import time

import torch

from lmcore.nn.attention import attention, attention_matrix, attention_tiled
from lmcore.nn.masks import causal_mask, padding_mask
from lmcore.nn.multihead import MultiHeadAttention
from lmcore.nn.transformer import DecoderBlock, EncoderBlock, TransformerConfig
from lmcore.nn.transformer_weights import from_torch

SIZES = [(16, 128, 256, 4), (8, 256, 512, 8), (32, 32, 128, 4), (1, 128, 256, 4)]  # batch, length, d_model, heads
LENGTHS = [128, 512, 2048]
TURNS = 21


def alternate(ours, theirs):
    """Median seconds of each, and the median of the turns' ratios; who goes first changes with every turn."""
    times = {ours: [], theirs: []}
    for turn in range(TURNS + 3):
        for function in (ours, theirs) if turn % 2 else (theirs, ours):
            start = time.perf_counter()
            function()
            times[function].append(time.perf_counter() - start)
    mine, other = times[ours][3:], times[theirs][3:]  # the first turns warm up
    ratio = statistics.median(b / a for a, b in zip(mine, other, strict=True))
    return statistics.median(mine), statistics.median(other), ratio


def report(name, ours, theirs, ratio):
    """One line of the table."""
    print(f"{name:70} {1e3 * ours:9.2f} {1e3 * theirs:10.2f} {ratio:7.2f}", flush=True)


def trainer(module, run, x, g):
    """Forward and backward, as a function."""

    def step():
        x.grad = None
        module.zero_grad(set_to_none=True)
        run(module, x).backward(g)

    return step


def predictor(module, run, x):
    """Forward only, as a function."""

    def step():
        with torch.no_grad():
            return run(module, x)

    return step


def compare(name, ours, theirs, run_ours, run_theirs, shape, *, fast_path=True):
    """Time training and evaluation of a pair of modules with equal weights, and print the lines."""
    ours.load_state_dict(from_torch(theirs.state_dict()))
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randn(shape, generator=generator) for _ in range(2))
    for module in (ours, theirs):
        module.train()
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    steps = trainer(ours, run_ours, mine, g), trainer(theirs, run_theirs, other, g)
    for step in steps:
        step()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4)
    report(f"{name}, train", *alternate(*steps))
    for module in (ours, theirs):
        module.eval()
    steps = predictor(ours, run_ours, x), predictor(theirs, run_theirs, x)
    torch.testing.assert_close(steps[0](), steps[1](), rtol=1e-4, atol=1e-4)
    report(f"{name}, eval{', fast path' if fast_path else ''}", *alternate(*steps))
    if fast_path:
        torch.backends.mha.set_fastpath_enabled(False)
        report(f"{name}, eval, no fast path", *alternate(*steps))
        torch.backends.mha.set_fastpath_enabled(True)


def compare_layers(batch, length, d_model, heads):
    """Attention, encoder and decoder layers of one size."""
    shape, peer = (batch, length, d_model), torch.nn
    name = f"{batch} × {length} × {d_model}, {heads} heads"
    config = TransformerConfig(d_model=d_model, heads=heads, d_ff=4 * d_model, layers=1, activation="gelu")
    above = ~causal_mask(length)
    real = padding_mask(torch.linspace(length, length // 2, batch).long(), length)
    pairs = {
        "self-attention": ({}, {}),
        "causal self-attention": ({"causal": True}, {"attn_mask": above, "is_causal": True}),
        "self-attention with padding": ({"mask": real}, {"key_padding_mask": ~real[:, 0, 0]}),
    }
    for what, (options, torch_options) in pairs.items():
        compare(
            f"{what}, {name}",
            MultiHeadAttention(d_model, heads),
            peer.MultiheadAttention(d_model, heads, batch_first=True),
            lambda m, x, o=options: m(x, **o),
            lambda m, x, o=torch_options: m(x, x, x, need_weights=False, **o)[0],
            shape,
        )
    for order in ("pre", "post"):
        layer = (d_model, heads, 4 * d_model, 0.0, "gelu")
        options = {"batch_first": True, "norm_first": order == "pre"}
        compare(
            f"{order}-norm encoder layer, {name}",
            EncoderBlock(TransformerConfig(**(vars(config) | {"order": order}))),
            peer.TransformerEncoderLayer(*layer, **options),
            lambda m, x: m(x),
            lambda m, x: m(x),
            shape,
        )
    memory = torch.randn(batch, length, d_model, generator=torch.Generator().manual_seed(1))
    compare(
        f"decoder layer, {name}",
        DecoderBlock(config),
        peer.TransformerDecoderLayer(*layer, batch_first=True, norm_first=True),
        lambda m, x: m(x, memory),
        lambda m, x: m(x, memory, tgt_mask=above, tgt_is_causal=True),
        shape,
        fast_path=False,
    )


def compare_dropout(batch, length, d_model, heads):
    """A training step with dropout, whose random numbers differ."""
    config = TransformerConfig(d_model=d_model, heads=heads, d_ff=4 * d_model, layers=1, dropout=0.1)
    ours = EncoderBlock(config)
    theirs = torch.nn.TransformerEncoderLayer(d_model, heads, 4 * d_model, 0.1, batch_first=True, norm_first=True)
    x, g = torch.randn(batch, length, d_model, requires_grad=True), torch.randn(batch, length, d_model)
    steps = [trainer(module, lambda m, x: m(x), x, g) for module in (ours, theirs)]
    report(f"encoder layer with dropout, {batch} × {length} × {d_model}, train", *alternate(*steps))


def kept_bytes(function, tensors):
    """Bytes that the forward pass keeps for the backward pass, beyond the inputs."""
    seen = {x.untyped_storage().data_ptr() for x in tensors}
    kept = {}

    def pack(x):
        storage = x.untyped_storage()
        if storage.data_ptr() not in seen:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = function(*tensors)
    del y
    return sum(kept.values())


def compare_versions(length):
    """Time and memory of the three versions, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 8, length, 64, generator=generator, requires_grad=True) for _ in range(3))
    g = torch.randn(1, 8, length, 64, generator=generator)
    versions = {"matrix": attention_matrix, "tiled": attention_tiled, "fused": attention}
    times = {name: [] for name in versions}
    for turn in range(9):
        for name, version in versions.items():
            start = time.perf_counter()
            version(q, k, v, causal=True).backward(g)
            times[name].append(time.perf_counter() - start)
            if turn == 0:
                times[name].clear()
    for name, version in versions.items():
        ratio = statistics.median(a / b for a, b in zip(times["matrix"], times[name], strict=True))
        kept = kept_bytes(lambda *x, version=version: version(*x, causal=True), (q, k, v)) / 2**20
        seconds = statistics.median(times[name])
        name = f"{name} attention, 8 heads × {length} × 64, causal, train"
        print(f"{name:55} {1e3 * seconds:9.1f} ms {ratio:6.2f} × matrix, keeps {kept:7.1f} MiB", flush=True)


def main():
    """Print the tables."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {TURNS} turns")
    print(f"{'':70} {'ours, ms':>9} {'torch, ms':>10} {'ratio':>7}")
    for size in SIZES:
        compare_layers(*size)
    compare_dropout(*SIZES[0])
    for length in LENGTHS:
        compare_versions(length)


if __name__ == "__main__":
    main()
