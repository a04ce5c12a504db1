"""Streaming: tokens as they are chosen, and text as soon as it is certain.

Two things have to be held back. A token of a byte-level vocabulary may end within a character, whose other bytes come
with the next one. And a text may be the beginning of a stop string, of which nothing shall be shown.
"""

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count

import torch
from torch import Tensor

from lmcore.decode.protocol import State, Step, checked, given_tokens
from lmcore.decode.single import chooser


@torch.no_grad()
def stream_tokens(
    step: Step,
    state: State,
    prefix: Tensor | Sequence[int],
    *,
    eos: int | None,
    max_length: int,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """Continue one prefix, and yield each token when it is chosen.

    Args:
        step, state, eos, max_length: see `greedy`; the state has one row.
        prefix: (T,) ids, T ≥ 1.
        temperature, top_k, top_p, generator: see `sample`. temperature None: the most probable token, as `greedy`.
    Yields:
        The ids that `greedy` or `sample` would return, without the end.
    Raises:
        ValueError: as `greedy` and `sample`, or cuts without a temperature; all when the first token is asked for.
    Cost: a step for each token of the prefix, then one before each token that is yielded.

    >>> after = torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])   # 0 → 1 → 2 → 0
    >>> from lmcore.decode import WholeText
    >>> tokens = stream_tokens(WholeText.step(lambda ids: after[ids]), WholeText(), [0], eos=None, max_length=4)
    >>> next(tokens), next(tokens), list(tokens)
    (1, 2, [0, 1])
    """
    if temperature is None:
        if top_k is not None or top_p != 1:
            raise ValueError("top_k and top_p need a temperature, such as 1.0: without one nothing is drawn")
        choose = _best
    else:
        choose = chooser(temperature, top_k=top_k, top_p=top_p, generator=generator)
    ((*first, token),), device = given_tokens([prefix], max_length)
    for given in first:
        _, state = step(torch.tensor([given], device=device), state)
    for chosen in count(1):
        logits, state = step(torch.tensor([token], device=device), state)
        token = int(choose(checked(logits, 1, len(first) + chosen)))
        if token == eos:
            return
        yield token
        if chosen == max_length:
            return


def _best(logits: Tensor) -> Tensor:
    """The most probable token of each row."""
    return logits.argmax(1)


def whole_characters(parts: Iterable[bytes]) -> Iterator[str]:
    """Turn bytes that come in parts into text: what ends within a character waits for the next part.

    Args:
        parts: UTF-8, cut anywhere.
    Yields:
        Strings that are not empty. Together they are the decoded whole; bytes that are no UTF-8 become �.

    >>> list(whole_characters([b"a", "é".encode()[:1], "é".encode()[1:] + b"b"]))
    ['a', 'éb']
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for part in parts:
        if text := decoder.decode(part):
            yield text
    if rest := decoder.decode(b"", final=True):
        yield rest


def until_stop(parts: Iterable[str], stop: Sequence[str]) -> Iterator[str]:
    """Pass text on until one of the stop strings is complete; the text ends before it.

    Args:
        parts: a text, cut anywhere.   stop: strings that are not empty; of those complete first, the longest counts.
    Yields:
        Strings that are not empty, each as soon as it cannot belong to a stop string. No part is asked for after that.
    Raises:
        ValueError: an empty stop string.   TypeError: stop is one string, whose letters would each stop the text.

    >>> list(until_stop(["It is a <", "b> no <", "/b> tag"], ["</b>"]))
    ['It is a ', '<b> no ']
    """
    if isinstance(stop, str):
        raise TypeError("stop is one string; pass a list of strings, [stop]")
    if not all(stop):
        raise ValueError(f"stop holds an empty string, which would stop every text: {list(stop)}")
    held = ""
    for part in parts:
        held += part
        found = [(held.index(s) + len(s), held.index(s)) for s in stop if s in held]
        if found:
            if text := held[: min(found)[1]]:
                yield text
            return
        waiting = max((n for s in stop for n in range(1, len(s)) if held.endswith(s[:n])), default=0)
        certain, held = held[: len(held) - waiting], held[len(held) - waiting :]
        if certain:
            yield certain
    if held:
        yield held


def stream_text(
    tokens: Iterable[int], to_bytes: Callable[[list[int]], bytes], *, stop: Sequence[str] = ()
) -> Iterator[str]:
    """Turn tokens that come one by one into text that can be shown at once.

    Args:
        tokens: ids, such as from `stream_tokens`.
        to_bytes: what ids stand for, such as `ByteLevelBPE.decode_bytes`; the bytes of several ids are those of each,
            one after the other.
        stop: see `until_stop`.
    Yields:
        Strings that are not empty. Together they are `to_bytes` of all ids, decoded, up to the first stop string.
    Raises:
        ValueError, TypeError: as `until_stop`; those of tokens and to_bytes.

    >>> "".join(stream_text([72, 105, 33, 10, 63], bytes, stop=["!"]))
    'Hi'
    """
    return until_stop(whole_characters(to_bytes([token]) for token in tokens), stop)
