"""A training step of our layers and functions against torch's: forward, loss, backward and one SGD update.

Both start from the same weights, take the same batch and the same `torch.optim.SGD`, and are asserted to agree after
the first step. They run in turns, and each ratio is the median, over the turns, of torch's time over ours: above 1 ours
is faster. On a busy machine, run it with OMP_NUM_THREADS=1: threads that wait for each other measure the neighbours.
"""

import statistics
import time

import torch

from lmcore.models.neural_ngram import NeuralNgram, NeuralNgramConfig
from lmcore.nn import functional
from lmcore.nn.layers import MLP

MLPS = [((784, 512, 512, 10), 256), ((784, 512, 512, 10), 32), ((64, 128, 10), 64), ((256, 1024, 256), 256)]
VOCABULARY = 8000
NGRAMS = [((60, 100), 256), ((60, 100), 1024), ((100, 500), 256)]  # embedding and hidden, batch
ROWS = 512  # of logits, where functions are timed alone
TURNS = 101


def alternate(ours, theirs):
    """Median seconds of each, and the median of the turns' ratios; who goes first changes with every turn."""
    times = {ours: [], theirs: []}
    for turn in range(TURNS + 5):
        for function in (ours, theirs) if turn % 2 else (theirs, ours):
            start = time.perf_counter()
            function()
            times[function].append(time.perf_counter() - start)
    mine, other = times[ours][5:], times[theirs][5:]  # the first turns warm up
    ratio = statistics.median(b / a for a, b in zip(mine, other, strict=True))
    return statistics.median(mine), statistics.median(other), ratio


def trainer(model, loss_of, x, y):
    """One training step of a model, as a function that returns the loss."""
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, foreach=False)

    def step():
        sgd.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        sgd.step()
        return loss.item()

    return step


def compare_training(name, ours, theirs, x, y):
    """Train both and print the line; the parameters are in the same order in both."""
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        q.data.copy_(p.data)
    steps = trainer(ours, functional.cross_entropy, x, y), trainer(theirs, torch.nn.functional.cross_entropy, x, y)
    assert abs(steps[0]() - steps[1]()) < 1e-5
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    report(name, *alternate(*steps))


def compare_function(name, ours, theirs, logits):
    """Time a function of logits with its backward pass, and print the line."""
    mine, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()

    def run(function, x):
        x.grad = None
        y = function(x)
        y.backward(logits if y.ndim else None)

    first, second = (lambda: run(ours, mine)), (lambda: run(theirs, other))
    first(), second()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4)
    report(name, *alternate(first, second))


def report(name, ours, theirs, ratio):
    """One line of the table."""
    print(f"{name:56} {1e3 * ours:9.2f} {1e3 * theirs:10.2f} {ratio:7.2f}", flush=True)


def torch_mlp(sizes):
    """The same stack of torch's layers."""
    layers = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def torch_ngram(config):
    """The same model of torch's layers."""
    return torch.nn.Sequential(
        torch.nn.Embedding(config.vocabulary_size, config.embedding_dim),
        torch.nn.Flatten(),
        torch.nn.Linear(config.context * config.embedding_dim, config.hidden),
        torch.nn.Tanh(),
        torch.nn.Linear(config.hidden, config.vocabulary_size),
    )


def main():
    """Print the table."""
    generator = torch.Generator().manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {TURNS} turns")
    print(f"{'':56} {'ours, ms':>9} {'torch, ms':>10} {'ratio':>7}")
    for sizes, batch in MLPS:
        x = torch.randn(batch, sizes[0], generator=generator)
        y = torch.randint(sizes[-1], (batch,), generator=generator)
        name = f"MLP {'-'.join(map(str, sizes))}, batch {batch}"
        compare_training(name, MLP(sizes, generator=generator), torch_mlp(sizes), x, y)
    for (embedding, hidden), batch in NGRAMS:
        config = NeuralNgramConfig(vocabulary_size=VOCABULARY, embedding_dim=embedding, hidden=hidden)
        x = torch.randint(VOCABULARY, (batch, config.context), generator=generator)
        y = torch.randint(VOCABULARY, (batch,), generator=generator)
        name = f"neural 5-gram, V = {VOCABULARY:,}, m = {embedding}, h = {hidden}, batch {batch}"
        compare_training(name, NeuralNgram(config, generator=generator), torch_ngram(config), x, y)
    logits = torch.randn(ROWS, VOCABULARY, generator=generator)
    y = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    peer = torch.nn.functional
    for name, ours, theirs in [
        ("cross_entropy", lambda x: functional.cross_entropy(x, y), lambda x: peer.cross_entropy(x, y)),
        ("log_softmax", functional.log_softmax, lambda x: peer.log_softmax(x, -1)),
        ("log_softmax_in_steps", functional.log_softmax_in_steps, lambda x: peer.log_softmax(x, -1)),
        ("relu", functional.relu, peer.relu),
        ("gelu", functional.gelu, peer.gelu),
    ]:
        compare_function(f"{name} of {ROWS} × {VOCABULARY:,}", ours, theirs, logits)


if __name__ == "__main__":
    main()
