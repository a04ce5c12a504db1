"""BERTScore: agreement in the vectors of words, so that "feline" is nearly right where "cat" was meant.

    R = 1/|x| Σ over xᵢ of max over x̂ⱼ of xᵢ · x̂ⱼ        P = 1/|x̂| Σ over x̂ⱼ of max over xᵢ of xᵢ · x̂ⱼ
    F = 2 P R / (P + R)

x are the vectors of a reference's tokens, x̂ those of a hypothesis, all of length 1, made by an encoder that has read
the whole sentence. Each token is paired with the most similar one of the other side, whether or not that one is taken
already: greedy matching. A pair of sentences has its own three scores; those of a corpus are their means.

The vectors come in as arrays, so that any encoder will do, and scores of different encoders do not compare. See
`lmcore.models.sentence_encoder`.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class BERTScore(NamedTuple):
    """Scores of N pairs, (N,) each; at most 1, and without rescaling at least −1."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def similarities(hypothesis: ArrayLike, reference: ArrayLike) -> np.ndarray:
    """Cosine of each token of a hypothesis and each token of its reference.

    Args:
        hypothesis: (S, d).   reference: (T, d).
    Returns:
        (S, T).
    Raises:
        ValueError: no matrices of the same d, no token, or a vector that is not finite or 0.

    >>> similarities([[3, 0], [1, 1]], [[0, 2], [5, 0]]).round(2)
    array([[0.  , 1.  ],
           [0.71, 0.71]])
    """
    a, b = _unit(hypothesis, "hypothesis"), _unit(reference, "reference")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"the vectors of hypothesis have length {a.shape[1]}, those of reference {b.shape[1]}")
    return a @ b.T


def _unit(vectors: ArrayLike, name: str) -> np.ndarray:
    """The vectors at length 1, in float64."""
    x = np.asarray(vectors, dtype=np.float64)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name} must be (tokens, dimension), at least one of each, got shape {x.shape}")
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    wrong = ~(np.isfinite(norms) & (norms > 0))
    if wrong.any():
        raise ValueError(f"{name}: the vector of token {wrong.argmax()} is 0 or not finite: it has no direction")
    return x / norms


def idf_weights(texts: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]) -> list[np.ndarray]:
    """Weights of tokens that are rare among references, log((M + 1) / (n + 1)): rare words say more.

    Args:
        texts: tokens, or their ids, of each text that wants weights.
        references: the same of the M references of the test set.
    Returns:
        For each text (T,), one weight per token; n is the number of references that hold it. A token of all references
        weighs 0, one of none log(M + 1).
    Raises:
        ValueError: no reference.
    Source: Zhang et al. 2020, section 3, with plus-one smoothing.

    >>> (weights,) = idf_weights([["the", "cat"]], [["the", "cat"], ["the", "mat"], ["the", "the"]])
    >>> np.exp(weights).tolist()   # 4/4 and 4/2
    [1.0, 2.0]
    """
    if not len(references):
        raise ValueError("references is empty: there is nothing to count in")
    holders = Counter(token for reference in references for token in set(reference))
    total = len(references) + 1
    return [np.array([math.log(total / (holders[token] + 1)) for token in text]) for text in texts]


def bertscore(
    hypotheses: Sequence[ArrayLike],
    references: Sequence[ArrayLike],
    *,
    weights: tuple[Sequence[ArrayLike], Sequence[ArrayLike]] | None = None,
    baseline: float | tuple[float, float, float] = 0.0,
) -> BERTScore:
    """Judge each hypothesis by its reference.

    Args:
        hypotheses, references: N matrices each, (tokens, d): the vectors of the tokens. references[i] belongs to
            hypotheses[i].
        weights: a pair, for hypotheses and references: N rows each, a weight ≥ 0 for each token, such as `idf_weights`;
            None: all tokens alike.
        baseline: b below 1, what sentences get that have nothing to do with each other. A score s becomes
            (s − b) / (1 − b), which only spreads the scores. One for all, or one each for precision, recall and F1.
    Returns:
        A `BERTScore`. Where P + R ≤ 0 (before rescaling), F1 is 0.
    Raises:
        ValueError: different numbers, no pair, a baseline of 1 or more, weights that do not fit, are negative or sum
            to 0; as `similarities`.
    Cost: O(S T d) for each pair of S and T tokens.
    Source: Zhang et al. 2020, section 3.   Differs: the authors' program counts [CLS] and [SEP] as partners, with
        weight 0; here they take part if their vectors are passed, with the weight that is passed.

    >>> bertscore([[[1, 0]]], [[[1, 0], [0.6, 0.8]]])   # P = 1, R = (1 + 0.6) / 2, F1 = 2 · 0.8 / 1.8
    BERTScore(precision=array([1.]), recall=array([0.8]), f1=array([0.88888889]))
    """
    if len(hypotheses) != len(references) or not len(hypotheses):
        raise ValueError(
            f"there are {len(hypotheses)} hypotheses and {len(references)} references: one each, at least one"
        )
    shares = [_shares(hypotheses, "hypotheses", weights and weights[0])]
    shares.append(_shares(references, "references", weights and weights[1]))
    scores = np.empty((3, len(hypotheses)))
    for i, (hypothesis, reference, p, r) in enumerate(zip(hypotheses, references, *shares, strict=True)):
        try:
            cosines = similarities(hypothesis, reference)
        except ValueError as error:
            raise ValueError(f"pair {i}: {error}") from None
        precision, recall = p @ cosines.max(axis=1), r @ cosines.max(axis=0)
        total = precision + recall
        scores[:, i] = precision, recall, 2 * precision * recall / total if total > 0 else 0.0
    return BERTScore(*_rescaled(scores, baseline))


def _shares(texts: Sequence[ArrayLike], name: str, weights: Sequence[ArrayLike] | None) -> list[np.ndarray]:
    """For each text the shares of its tokens, which sum to 1."""
    if weights is None:
        return [np.full(len(text), 1 / max(1, len(text))) for text in texts]
    if len(weights) != len(texts):
        raise ValueError(f"there are {len(texts)} {name}, but weights for {len(weights)}")
    shares = []
    for i, (text, row) in enumerate(zip(texts, weights, strict=True)):
        row = np.asarray(row, dtype=np.float64)
        if row.shape != (len(text),):
            raise ValueError(f"{name}[{i}] has {len(text)} tokens, but weights of shape {row.shape}")
        if not (np.isfinite(row).all() and (row >= 0).all() and row.sum() > 0):
            raise ValueError(f"the weights of {name}[{i}] must be at least 0 and not all 0, got {row}")
        shares.append(row / row.sum())
    return shares


def _rescaled(scores: np.ndarray, baseline: float | tuple[float, float, float]) -> np.ndarray:
    """(s − b) / (1 − b) for each row of scores."""
    b = np.asarray(baseline, dtype=np.float64)
    if b.shape not in ((), (3,)) or not (np.isfinite(b) & (b < 1)).all():
        raise ValueError(f"baseline must be one number below 1, or three, got {baseline!r}")
    b = np.broadcast_to(b, 3)[:, None]
    return (scores - b) / (1 - b)
