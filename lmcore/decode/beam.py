"""Beam search: several continuations for each prefix side by side, of which the best are kept at each step."""

import math
from collections.abc import Callable
from itertools import count

import torch

from lmcore.decode.protocol import Hypothesis, Prefixes, State, Step, checked, given_tokens, hypothesis
from lmcore.nn.functional import log_softmax
from lmcore.sizes import check_sizes

_Beam = tuple[int, tuple[int, ...], float]  # which prefix it continues, the tokens chosen, their log-probability


def gnmt_penalty(n: int, alpha: float) -> float:
    """Length penalty ((5 + n) / 6)^α of Wu et al. 2016; it grows less than n^α while n is small.

    >>> gnmt_penalty(1, 0.6), gnmt_penalty(7, 1.0)
    (1.0, 2.0)
    """
    return ((5 + n) / 6) ** alpha


def power_penalty(n: int, alpha: float) -> float:
    """Length penalty n^α; with α = 1 the score is the mean log-probability of a token.

    >>> power_penalty(4, 0.5)
    2.0
    """
    return n**alpha


def _extensions(
    beams: list[_Beam], given: list[list[int]], t: int, top: tuple[list, list]
) -> list[list[tuple[int, _Beam]]]:
    """For each prefix: its beams extended by their best tokens, best first, each with the place of its parent."""
    found: list[list[tuple[int, _Beam]]] = [[] for _ in given]
    for place, ((row, tokens, logprob), gains, ids) in enumerate(zip(beams, *top, strict=True)):
        if t < len(given[row]):  # its next token is given
            found[row].append((place, beams[place]))
            continue
        for gain, token in zip(gains, ids, strict=True):
            if gain > -math.inf:
                found[row].append((place, (row, (*tokens, token), logprob + gain)))
    return [sorted(extended, key=lambda pair: -pair[1][2]) for extended in found]


@torch.no_grad()
def beam_search(
    step: Step,
    state: State,
    prefixes: Prefixes,
    *,
    eos: int | None,
    max_length: int,
    beam: int = 5,
    alpha: float = 0.0,
    penalty: Callable[[int, float], float] = gnmt_penalty,
) -> list[list[Hypothesis]]:
    """Extend the most probable hypotheses by every token, keep the most probable of what comes out, and so on.

    A hypothesis that chose the end is put aside, and the search goes on with one beam fewer, until none is left. So
    beam = 1 is greedy, and a beam as large as the number of sequences finds the best of all.

    Args:
        step, state, prefixes, eos, max_length: see `greedy`.
        beam: how many hypotheses are kept for each prefix, ≥ 1.
        alpha: ≥ 0, how much long hypotheses are favoured in the end; 0: not at all, the score is the log-probability.
        penalty: the score is logprob / penalty(n, alpha), where n counts the chosen tokens, the end among them.
    Returns:
        For each prefix its hypotheses, beam of them or as many as there are, by falling score.
    Raises:
        ValueError: beam < 1, alpha < 0, or as `greedy`.   TypeError: as `greedy`.
    Cost: as `greedy`, with up to beam rows for each prefix.
    Source: Sutskever et al. 2014, without the penalty.
    Differs: Hugging Face's goes on with a full beam, and needs a rule for when to stop (`early_stopping`).

    >>> from lmcore.decode import WholeText
    >>> after = torch.log(torch.tensor([[0.0, 0.6, 0.4, 0.0], [0.0, 0.3, 0.3, 0.4], [0.0, 0.0, 0.1, 0.9], [0.25] * 4]))
    >>> step = WholeText.step(lambda ids: after[ids])
    >>> best, other = beam_search(step, WholeText(), [[0]], eos=3, max_length=5, beam=2)[0]
    >>> best.tokens, round(math.exp(best.logprob), 2)   # greedy takes 1, and gets 0.6 · 0.4
    ((2,), 0.36)
    """
    check_sizes(beam=beam)
    if not 0 <= alpha < math.inf:
        raise ValueError(f"alpha must be at least 0, got {alpha}")
    given, device = given_tokens(prefixes, max_length)
    beams: list[_Beam] = [(row, (), 0.0) for row in range(len(given))]
    done: list[list[Hypothesis]] = [[] for _ in given]
    for t in count(1):  # tokens read, after this step
        newest = [tokens[-1] if tokens else given[row][t - 1] for row, tokens, _ in beams]
        logits, state = step(torch.tensor(newest, device=device), state)
        top = log_softmax(checked(logits, len(beams), t)).topk(min(beam, logits.shape[1]))  # others cannot be kept
        kept = []
        for row, extended in enumerate(_extensions(beams, given, t, (top.values.tolist(), top.indices.tolist()))):
            for place, (_, tokens, logprob) in extended[: beam - len(done[row])]:
                if tokens and (tokens[-1] == eos or len(tokens) == max_length):
                    done[row].append(hypothesis(tokens, logprob, eos, penalty(len(tokens), alpha)))
                else:
                    kept.append((place, (row, tokens, logprob)))
        if not kept:
            break
        state = state.reorder(torch.tensor([place for place, _ in kept], device=logits.device))
        beams = [b for _, b in kept]
    return [sorted(found, key=lambda h: -h.score) for found in done]
