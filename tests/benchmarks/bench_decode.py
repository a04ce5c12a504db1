"""Beam search with a Transformer that keeps keys and values, next to the same search computing everything again.

Without a cache step t reads t tokens, so that n steps read n (n + 1) / 2 of them; with it each step reads one. How much
of that is seen in time depends on what else a step costs: the output's product, the reordering of the cache, Python.
Both searches are timed alternately and find the same hypotheses.
"""

import statistics
import time

import torch

from lmcore.decode import beam_search
from lmcore.models.seq2seq_transformer import TransformerSeq2Seq, TransformerSeq2SeqConfig
from lmcore.nn.transformer import TransformerConfig

LENGTHS = (10, 30, 100, 200)
SOURCES, BEAM, ROUNDS = 8, 5, 4
BOS = 1


def model():
    """A model of random weights, which knows no end: all searches have full length."""
    stack = TransformerConfig(d_model=128, heads=4, d_ff=512, layers=3)
    config = TransformerSeq2SeqConfig(source_size=2003, target_size=2003, transformer=stack)
    return TransformerSeq2Seq(config, generator=torch.Generator().manual_seed(0)).eval()


def search(transformer, source, lengths, n, cache):
    """Seconds of a search, and what was found."""
    start = time.perf_counter()
    with torch.no_grad():
        state = transformer.start(source, lengths, cache=cache)
    prefixes = torch.full((len(source), 1), BOS)
    found = beam_search(transformer.step, state, prefixes, eos=None, max_length=n, beam=BEAM)
    return time.perf_counter() - start, [[h.tokens for h in beams] for beams in found]


def main():
    """Print seconds per search (medians) and the ratio, the time without the cache divided by that with it."""
    transformer = model()
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(2, 2003, (SOURCES, 23), generator=generator)
    lengths = torch.full((SOURCES,), 23)
    print(f"{SOURCES} sources, beam {BEAM}    seconds with cache   without   ratio   tokens read")
    for n in LENGTHS:
        times = []
        for _ in range(ROUNDS):
            (a, found), (b, again) = (search(transformer, source, lengths, n, cache) for cache in (True, False))
            assert found == again
            times.append((a, b))
        a, b = (statistics.median(column) for column in zip(*times[1:], strict=True))
        print(f"    {n:4} tokens {a:28.2f} {b:9.2f} {b / a:7.1f} {(n + 1) / 2:13.1f}")


if __name__ == "__main__":
    main()
