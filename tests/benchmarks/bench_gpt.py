"""A training step of our GPT and AdamW against a plain PyTorch GPT with torch.optim.AdamW; then with bfloat16.

The peer is written as nanoGPT is: one projection for queries, keys and values, `scaled_dot_product_attention`, GELU,
layer norms, tied embeddings. Both start from the same weights, take the same batches, and are asserted to have equal
losses after some steps. They run in turns, and each ratio is the median, over the turns, of the peer's time over ours:
above 1 ours is faster. The bfloat16 line has the forward pass under autocast, on CPUs that multiply in it
(avx512_bf16); elsewhere it is many times slower, and not run.
"""

import statistics
import time

import torch
from torch import nn
from torch.nn import functional

from lmcore.models.gpt import GPT, GPTConfig
from lmcore.nn.functional import cross_entropy
from lmcore.train.optim import AdamW

V, T, B, D, LAYERS, HEADS = 4096, 128, 16, 256, 4, 4
TURNS = 9


class PlainBlock(nn.Module):
    """Attention and MLP, each after a layer norm."""

    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.c_attn, self.c_proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.c_fc, self.out = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (part.view(b, t, HEADS, D // HEADS).transpose(1, 2) for part in self.c_attn(self.ln_1(x)).split(D, 2))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(b, t, D))
        return x + self.out(functional.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class PlainGPT(nn.Module):
    """GPT-2 in plain PyTorch."""

    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, D), nn.Embedding(T, D)
        self.blocks = nn.ModuleList(PlainBlock() for _ in range(LAYERS))
        self.ln_f, self.head = nn.LayerNorm(D), nn.Linear(D, V, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x))


def copy_weights(ours, plain):
    """Give the peer our weights."""
    with torch.no_grad():
        plain.wte.weight.copy_(ours.embedding.weight)
        plain.wpe.weight.copy_(ours.positions.weight)
        for mine, other in zip(ours.decoder.layers, plain.blocks, strict=True):
            other.c_attn.weight.copy_(mine.self_attention.in_proj_weight)
            other.c_attn.bias.copy_(mine.self_attention.in_proj_bias)
            pairs = [(other.c_proj, mine.self_attention.out_proj), (other.c_fc, mine.feed_forward.up)]
            for theirs, source in [*pairs, (other.out, mine.feed_forward.down)]:
                theirs.weight.copy_(source.weight)
                theirs.bias.copy_(source.bias)


def trainer(model, loss_of, optimizer, batches, autocast=False):
    """One training step, as a function that returns the loss; the batches come round and round."""
    turn = iter(range(10**9))

    def step():
        x, y = batches[next(turn) % len(batches)]
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = model(x)
        loss = loss_of(logits.float(), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def plain_loss(logits, targets):
    """torch's cross-entropy."""
    return functional.cross_entropy(logits.view(-1, V), targets.view(-1))


def steps():
    """Trainers of equal models, and whether the CPU multiplies bfloat16."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(V, (2, B, T), generator=generator) for _ in range(3)]
    config = GPTConfig.gpt2(vocabulary_size=V, context=T, d_model=D, layers=LAYERS, heads=HEADS)
    models = {name: GPT(config, generator=torch.Generator().manual_seed(1)) for name in ("lmcore", "lmcore, bfloat16")}
    plain = PlainGPT()
    copy_weights(models["lmcore"], plain)
    settings = {"lr": 3e-4, "weight_decay": 0.1}
    found = {"plain PyTorch": trainer(plain, plain_loss, torch.optim.AdamW(plain.parameters(), **settings), batches)}
    if not torch.cpu.get_capabilities().get("avx512_bf16", False):
        del models["lmcore, bfloat16"]
    for name, model in models.items():
        optimizer = AdamW(model.parameters(), **settings)
        found[name] = trainer(model, cross_entropy, optimizer, batches, autocast="bfloat16" in name)
    return found


def main():
    """Print milliseconds per step (medians), tokens per second, and the ratio to plain PyTorch."""
    found = steps()
    for _ in range(3):  # they warm up, and have equal losses
        losses = {name: step() for name, step in found.items()}
        assert abs(losses["lmcore"] - losses["plain PyTorch"]) < 1e-3, losses
        assert all(abs(loss - losses["plain PyTorch"]) < 0.02 for loss in losses.values()), losses
    times = {name: [] for name in found}
    for turn in range(TURNS):
        for name in list(found)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            found[name]()
            times[name].append(time.perf_counter() - start)
    print(f"{LAYERS} layers of {D}, batch {B} × {T}, {torch.get_num_threads()} threads")
    print(f"{'':20} ms per step   tokens/s    ratio")
    for name, mine in times.items():
        ratio = statistics.median(b / a for a, b in zip(mine, times["plain PyTorch"], strict=True))
        middle = statistics.median(mine)
        print(f"{name:20} {1e3 * middle:11.0f} {B * T / middle:10,.0f} {ratio:8.2f}")


if __name__ == "__main__":
    main()
