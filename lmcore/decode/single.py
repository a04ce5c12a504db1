"""One continuation for each prefix: greedy decoding, and sampling with temperature, top-k and top-p."""

import math
from collections.abc import Callable
from itertools import count
from numbers import Integral

import torch
from torch import Tensor

from lmcore.decode.protocol import Hypothesis, Prefixes, State, Step, checked, given_tokens, hypothesis
from lmcore.nn.functional import log_softmax, softmax


def _continue(
    step: Step,
    state: State,
    prefixes: Prefixes,
    choose: Callable[[Tensor], Tensor],
    *,
    eos: int | None,
    max_length: int,
) -> list[Hypothesis]:
    """Extend each prefix by what `choose` makes of the logits: (R, V) → (R,)."""
    given, device = given_tokens(prefixes, max_length)
    texts, logprobs = [prefix[:1] for prefix in given], [0.0] * len(given)
    rows = list(range(len(given)))  # the prefix that each row of the batch continues
    for t in count(1):  # tokens read, after this step
        logits, state = step(torch.tensor([texts[row][-1] for row in rows], device=device), state)
        chosen = choose(checked(logits, len(rows), t))
        gained = log_softmax(logits).gather(1, chosen[:, None])[:, 0]
        alive = []
        for place, (row, token, gain) in enumerate(zip(rows, chosen.tolist(), gained.tolist(), strict=True)):
            if t < len(given[row]):  # its next token is given
                texts[row].append(given[row][t])
                alive.append(place)
                continue
            texts[row].append(token)
            logprobs[row] += gain
            if token != eos and len(texts[row]) < len(given[row]) + max_length:
                alive.append(place)
        if not alive:
            break
        if len(alive) < len(rows):
            state = state.reorder(torch.tensor(alive, device=logits.device))
            rows = [rows[place] for place in alive]
    chosen = [text[len(prefix) :] for text, prefix in zip(texts, given, strict=True)]
    return [hypothesis(tokens, logprob, eos) for tokens, logprob in zip(chosen, logprobs, strict=True)]


@torch.no_grad()
def greedy(step: Step, state: State, prefixes: Prefixes, *, eos: int | None, max_length: int) -> list[Hypothesis]:
    """Choose the most probable token again and again: a good sequence, and often not the most probable one.

    Args:
        step, state: the model, see `lmcore.decode`; the state has a row for each prefix and has read no token of it.
        prefixes: (B, T) ids, or B lists or tensors of ids of different lengths ≥ 1; tensors say the device.
        eos: the id after which a sequence ends; None: only max_length ends it.
        max_length: how many tokens are chosen at most for each prefix, the end among them.
    Returns:
        B hypotheses.
    Raises:
        ValueError: an empty prefix, max_length < 1, or logits of the wrong shape or with NaN.
        TypeError: prefixes that are no rows of ids.
    Cost: one step for each token of the longest prefix with its continuation, less one.

    >>> after = torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])   # 0 → 1 → 2 → 0
    >>> from lmcore.decode import WholeText
    >>> greedy(WholeText.step(lambda ids: after[ids]), WholeText(), [[0]], eos=None, max_length=4)[0].tokens
    (1, 2, 0, 1)
    """
    return _continue(step, state, prefixes, lambda logits: logits.argmax(1), eos=eos, max_length=max_length)


def truncate(logits: Tensor, *, top_k: int | None = None, top_p: float = 1.0) -> Tensor:
    """Forbid improbable tokens: all but the k best, then all but the smallest set of best ones that weighs at least p.

    Args:
        logits: (…, V).   top_k: in 1 … V; None: all.
        top_p: in (0, 1], share of the probability that the first cut left; the token that reaches it stays.
    Returns:
        (…, V), with −∞ at what is forbidden.
    Raises:
        ValueError: top_k or top_p outside its range.
    Source: Fan et al. 2018 for k; Holtzman et al. 2020 for p, whose set is called the *nucleus*.
    Differs: Hugging Face keeps more than k where equal logits are the k-th.

    >>> truncate(torch.log(torch.tensor([0.5, 0.3, 0.2])), top_p=0.7).exp()
    tensor([0.5000, 0.3000, 0.0000])
    """
    n_words = logits.shape[-1]
    if top_k is not None and not (isinstance(top_k, Integral) and 1 <= top_k <= n_words):
        raise ValueError(f"top_k must be a whole number in 1 … {n_words}, the size of the vocabulary; got {top_k!r}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}")
    if top_k is not None:
        values, ids = logits.topk(top_k, dim=-1)
        logits = torch.full_like(logits, -math.inf).scatter(-1, ids, values)
    if top_p < 1:
        p, ids = softmax(logits).sort(dim=-1, descending=True)
        better = p.cumsum(-1) - p  # what the tokens before weigh
        logits = logits.masked_fill((better >= top_p).gather(-1, ids.argsort(-1)), -math.inf)
    return logits


def chooser(
    temperature: float, *, top_k: int | None = None, top_p: float = 1.0, generator: torch.Generator | None = None
) -> Callable[[Tensor], Tensor]:
    """How `sample` draws: a function of logits (R, V) that returns a token for each row (R,); arguments as there.

    >>> chooser(0.5, top_k=1)(torch.tensor([[0.0, 2.0, 1.0]]))
    tensor([1])
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be above zero, got {temperature}; for the limit 0 take greedy")

    def choose(logits: Tensor) -> Tensor:
        logits = logits - logits.amax(1, keepdim=True)  # divided by a small temperature it must not overflow
        kept = truncate(logits / temperature, top_k=top_k, top_p=top_p)
        return torch.multinomial(softmax(kept), 1, generator=generator)[:, 0]

    return choose


@torch.no_grad()
def sample(
    step: Step,
    state: State,
    prefixes: Prefixes,
    *,
    eos: int | None,
    max_length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[Hypothesis]:
    """Draw each token at random, from what temperature, top-k and top-p, in this order, make of its probabilities.

    Args:
        step, state, prefixes, eos, max_length: see `greedy`.
        temperature: > 0, what the logits are divided by; below 1 the probable becomes more probable.
        top_k, top_p: see `truncate`.
        generator: the source of randomness, on the device of the logits; torch's global one if None.
    Returns:
        B hypotheses; their logprob is the model's own, whatever was cut away.
    Raises:
        ValueError: temperature ≤ 0, or as `greedy` and `truncate`.

    >>> after = torch.log(torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
    >>> from lmcore.decode import WholeText
    >>> sample(WholeText.step(lambda ids: after[ids]), WholeText(), [[1]], eos=2, max_length=7)[0]
    Hypothesis(tokens=(), logprob=0.0, score=0.0, finished=True)
    """
    choose = chooser(temperature, top_k=top_k, top_p=top_p, generator=generator)
    return _continue(step, state, prefixes, choose, eos=eos, max_length=max_length)
