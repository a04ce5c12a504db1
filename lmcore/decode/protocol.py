"""What decoding needs of a model, what it gives back, and the checks that all ways of decoding share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from lmcore.sizes import check_sizes


class State(Protocol):
    """What a model remembers of the tokens it has read, for a batch of rows."""

    def reorder(self, rows: Tensor) -> Self:
        """Return the state of these rows, (R,) numbers on the device of the logits."""


Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
Prefixes = Tensor | Sequence[Sequence[int]] | Sequence[Tensor]


@dataclass(frozen=True)
class Hypothesis:
    """One continuation of a prefix.

    Attributes:
        tokens: the chosen ids, without the prefix and without the end.
        logprob: natural logarithm of the probability that the model gives them (and the end, if finished).
        score: what hypotheses are sorted by: logprob, divided by the length penalty.
        finished: whether the model chose the end; False: it was stopped at max_length.
    """

    tokens: tuple[int, ...]
    logprob: float
    score: float
    finished: bool


class WholeText:
    """The state of a model that remembers nothing: all tokens so far.

    Args:
        tokens: (B, t) ids, or None before the first step.

    `WholeText.step` makes a step of any function from ids (B, t) to scores of what comes next, (B, V) or (B, t, V).
    Each step costs as much as reading the whole text.

    >>> from lmcore.decode import greedy
    >>> after = torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])   # 0 → 1 → 2 → 0
    >>> found = greedy(WholeText.step(lambda ids: after[ids]), WholeText(), [[0], [2, 0]], eos=2, max_length=7)
    >>> [hypothesis.tokens for hypothesis in found]
    [(1,), (1,)]
    """

    def __init__(self, tokens: Tensor | None = None):
        self.tokens = tokens

    def reorder(self, rows: Tensor) -> "WholeText":
        """The texts of these rows."""
        return WholeText(self.tokens[rows])

    @staticmethod
    def step(model: Callable[[Tensor], Tensor]) -> Step:
        """Return the step that reads everything again."""

        def step(tokens: Tensor, state: WholeText) -> tuple[Tensor, WholeText]:
            before = [] if state.tokens is None else [state.tokens]
            state = WholeText(torch.cat([*before, tokens[:, None]], dim=1))
            logits = model(state.tokens)
            return (logits[:, -1] if logits.ndim == 3 else logits), state

        return step


# ---- for the ways of decoding ----


def given_tokens(prefixes: Prefixes, max_length: int) -> tuple[list[list[int]], torch.device]:
    """Prefixes as lists, and the device they are on, after checks."""
    check_sizes(max_length=max_length)
    first = prefixes[0] if len(prefixes) else None
    device = first.device if isinstance(first, Tensor) else torch.device("cpu")
    given = [torch.as_tensor(prefix).tolist() for prefix in prefixes]
    for row, prefix in enumerate(given):
        if not isinstance(prefix, list) or not all(isinstance(token, int) for token in prefix):
            raise TypeError(f"prefixes must be (B, T) ids or B rows of ids; row {row} is {prefix!r}")
    if not given or not all(given):
        raise ValueError(f"each prefix needs at least one token, such as the mark of the beginning; got {given}")
    return given, device


def checked(logits: Tensor, rows: int, t: int) -> Tensor:
    """Logits (rows, V) after t tokens; refused if nothing can be chosen by them."""
    if logits.ndim != 2 or len(logits) != rows:
        raise ValueError(f"step must return logits of shape ({rows}, V), got {tuple(logits.shape)}")
    wrong = ~logits.amax(1).isfinite()  # also where there is a single NaN: amax passes it on
    if wrong.any():
        row = int(wrong.nonzero()[0])
        nan = logits[row].isnan()
        what = f"NaN for token {int(nan.nonzero()[0])}" if nan.any() else f"{logits[row].max()} as their maximum"
        raise ValueError(f"logits have {what} in row {row} after {t} tokens: look at the weights and the masks")
    return logits


def hypothesis(tokens: Sequence[int], logprob: float, eos: int | None, penalty: float = 1.0) -> Hypothesis:
    """A hypothesis from chosen tokens: their end is taken off, and they are given a score."""
    finished = tokens[-1] == eos
    return Hypothesis(tuple(tokens[:-1] if finished else tokens), logprob, logprob / penalty, finished)
