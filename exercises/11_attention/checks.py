"""Checks of the exercises on attention; the inputs are drawn anew from each seed."""

from functools import partial

import numpy as np

from lmcore.checking import Tasks, refuse, require, same

tasks = Tasks()
check = tasks.check
TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}
_same, _refuse = partial(same, **TOLERANCE), partial(refuse, **TOLERANCE)


def _shape(got, shape, axes):
    """Require the shape, and say what its axes are."""
    got = np.asarray(got, dtype=float)
    require(got.shape == shape, f"The result should have the shape {shape}, {axes}; yours has {got.shape}.")
    return got


def _softmax(scores, axis=-1):
    """Softmax along an axis."""
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


@tasks.add(points=1, minutes=5)
def one_query(student, rng):
    """The answer to one query."""
    S, d, e = 5, 3, 4
    while True:  # until no key takes nearly everything, even without the scale
        q, keys, values = rng.normal(size=d) + 0.5, rng.normal(size=(S, d)), rng.normal(size=(S, e))
        raw = keys @ q
        if 0.3 < _softmax(raw).max() < 0.75:
            break
    expected = _softmax(raw / np.sqrt(d)) @ values
    got = student(q, keys, values)
    looks = np.asarray(got, dtype=float)
    require(
        looks.shape != (S,) or not _same(looks, _softmax(raw / np.sqrt(d))),
        "Those are the weights; the answer is the average of the values with these weights.",
    )
    require(
        not _same(looks, _softmax(raw / np.sqrt(d)) @ keys),
        "You averaged the keys. They are for comparing only; what is averaged are the values.",
    )
    got = _shape(got, (e,), "the length of a value")
    _refuse(
        got,
        expected,
        [
            (_softmax(raw) @ values, "The scores are not scaled: divide them by √d before the softmax."),
            (_softmax(raw / d) @ values, "You divided the scores by d; it is its root that belongs there."),
            (
                _softmax(raw / np.sqrt(S)) @ values,
                "You divided by the root of the number of keys; d is a key's length.",
            ),
            (_softmax(raw / np.sqrt(e)) @ values, "You divided by the root of a value's length; d is a key's length."),
            (raw / np.sqrt(d) @ values, "There is no softmax: scores are no weights, some of them are negative."),
            (
                np.exp(raw / np.sqrt(d)) @ values,
                "The weights do not sum to one: divide the exponentials by their sum.",
            ),
            (raw / raw.sum() @ values, "You divided the scores by their sum; take their exponentials first."),
            (values[raw.argmax()], "You took the value of the best key alone; all values take part in the average."),
            (values.mean(axis=0), "That is the plain average: the weights are missing."),
        ],
    )
    require(_same(got, expected), f"Expected {expected.round(4)}, got {got.round(4)}.")


@tasks.add(points=2, minutes=10)
def scaled_scores(student, rng):
    """Scores of all pairs in a batch, scaled."""
    B, H, T, S, d = 2, 3, 5, 7, int(rng.choice([4, 6, 11]))
    Q, K = rng.normal(size=(B, H, T, d)), rng.normal(size=(B, H, S, d))
    raw = np.einsum("bhtd,bhsd->bhts", Q, K)
    expected = raw / np.sqrt(d)
    got = student(Q, K)
    require(
        np.shape(got) != (B, H, S, T),
        "Your rows are keys and your columns queries; the queries come first: Q Kᵀ, not K Qᵀ.",
    )
    got = _shape(got, (B, H, T, S), "text, head, query, key")
    _refuse(
        got,
        expected,
        [
            (raw, "The scale is missing: divide by √d."),
            (raw / d, "You divided by d; the standard deviation of a score is its root."),
            (raw / np.sqrt(S), "You divided by the root of the number of keys; d is the length of a key."),
            (raw / np.sqrt(T), "You divided by the root of the number of queries; d is the length of a key."),
            (raw / np.sqrt(H * d), "You divided by the root of H·d, the length of all heads; d is that of one head."),
            (raw / np.sqrt(H), "You divided by the root of the number of heads; d is the length of a key."),
            (raw * np.sqrt(d), "You multiplied by √d; divide by it."),
            (_softmax(expected), "Those are the weights already; only the scores are asked for."),
        ],
    )
    require(_same(got, expected), f"The first scores should be {expected[0, 0, 0].round(4)}, got {got[0, 0, 0]}.")


@tasks.add(points=2, minutes=10)
def causal_mask(student, rng):
    """A causal mask for the last queries of a text."""
    for T, extra in ((int(rng.integers(3, 6)), int(rng.integers(2, 5))), (4, 0), (1, int(rng.integers(3, 7)))):
        S = T + extra
        expected = np.tril(np.ones((T, S), dtype=bool), S - T)
        got = _shape(student(T, S), (T, S), "query, key")
        require(np.isin(got, (0, 1)).all(), "A mask holds True and False, nothing else: it is no score yet.")
        got = got.astype(bool)
        case = f"for T = {T}, S = {S}"
        wrongs = [
            (~expected, "The sense is inverted: here True means *may* attend."),
            (np.tril(np.ones((T, S)), S - T - 1), "The diagonal is missing: a query may attend to its own position."),
            (
                np.tril(np.ones((T, S))),
                "You took the queries for the first T positions. They are the last ones: the last query sees all keys.",
            ),
            (np.triu(np.ones((T, S))), "Your queries see their own position and the future; they may see the past."),
            (
                np.tril(np.ones((T, S)), S - T + 1),
                "Each query sees one position too many, its next one: it could read off what it must predict.",
            ),
            (np.ones((T, S)), "Every query sees everything."),
        ]
        for wrong, message in wrongs:
            require(not np.array_equal(got, wrong) or np.array_equal(wrong, expected), message)
        require(np.array_equal(got, expected), f"Expected {case}\n{expected.astype(int)}\ngot\n{got.astype(int)}")


@tasks.add(points=3, minutes=15)
def masked_softmax(student, rng):
    """Weights from scores, where some keys are forbidden."""
    T, S = 5, 7
    scores = rng.normal(size=(T, S)) + 0.5
    while True:  # until every row has keys of both kinds, and every column an allowed one
        allowed = rng.random((T, S)) < 0.6
        if allowed.any(axis=1).all() and not allowed.all(axis=1).any() and allowed.any(axis=0).all():
            break
    expected = _softmax(np.where(allowed, scores, -np.inf))
    with np.errstate(all="ignore"):
        got = _shape(student(scores, allowed), (T, S), "query, key")
        columns = np.exp(np.where(allowed, scores, -np.inf))
        columns = columns / columns.sum(axis=0)
    late = _softmax(scores) * allowed
    _refuse(
        got,
        expected,
        [
            (
                late,
                "You masked after the softmax: the forbidden scores had their share in the sum, and the rows no longer "
                "sum to one.",
            ),
            (_softmax(scores), "The mask is not used at all."),
            (_softmax(scores * allowed), "You set forbidden scores to 0, but e⁰ = 1 takes a share: set them to −∞."),
            (_softmax(np.where(allowed, -np.inf, scores)), "You forbade what is allowed: True means *may* attend."),
            (columns, "You normalised the columns; the weights of one query, a row, sum to one."),
            (np.exp(scores) * allowed, "The exponentials are not divided by the sum of their row."),
        ],
    )
    require(not np.isnan(got).any(), "There is 'not a number' among your weights: something was divided by zero.")
    leak = np.where(allowed, 0, got)
    require((leak == 0).all(), f"A forbidden key got the weight {leak.max():.3g}; e^−∞ = 0 is exactly zero.")
    require(_same(got, expected), f"Expected in the first row {expected[0].round(4)}, got {got[0].round(4)}.")

    big = scores + 1000
    with np.errstate(all="ignore"):
        got = _shape(student(big, allowed), (T, S), "query, key")
    require(
        np.isfinite(got).all() and _same(got, expected, rtol=2e-3),
        "Scores around a thousand overflow: subtract the largest score of each row before the exponential.",
    )
    low = scores - 1000
    with np.errstate(all="ignore"):
        got = _shape(student(low, allowed), (T, S), "query, key")
    require(
        np.isfinite(got).all() and _same(got, expected, rtol=2e-3),
        "Scores around −1000: all exponentials vanish, so subtract the largest score of each row, not a fixed number "
        "and not a maximum that includes zeros in place of what is forbidden.",
    )
    tall = np.where(allowed, scores, scores + 1000)
    with np.errstate(all="ignore"):
        got = _shape(student(tall, allowed), (T, S), "query, key")
    require(
        np.isfinite(got).all() and _same(got, expected),
        "A large score of a *forbidden* key spoils the row: it must be out before the maximum and the sum are taken. "
        "Dividing again after the softmax does not help when the allowed weights have vanished.",
    )
    apart = scores + 1000 * np.array([[1], [-1], [1], [0], [-1]])
    with np.errstate(all="ignore"):
        got = _shape(student(apart, allowed), (T, S), "query, key")
    require(
        np.isfinite(got).all() and _same(got, expected, rtol=2e-3),
        "Rows of very different size: subtract from each row its own largest score, not the largest of all.",
    )


def _part(scores, values):
    """The triple of a block: scores (T, n), some −∞, values (n, e)."""
    m = scores.max(axis=1, keepdims=True)
    powers = np.exp(scores - np.where(np.isinf(m), 0, m))
    return m, powers.sum(axis=1, keepdims=True), powers @ values


@tasks.add(points=3, minutes=20)
def merge(student, rng):
    """Two parts of an online softmax become one."""
    T, e = 5, 3
    values = rng.normal(size=(11, e)) + 0.5
    for case in ("small", "large", "empty"):
        scores = rng.normal(size=(T, 11)) * 2
        # Each side has the larger maximum in some row, so that shrinking one side only is seen.
        scores[0, 1], scores[1, 7], scores[2, 2], scores[3, 9] = 5.0, 5.5, 6.0, 4.5
        scores += 900 if case == "large" else 0
        if case == "empty":
            scores[4, :4] = scores[2, 4:] = -np.inf
        one, other, whole = (_part(scores[:, s], values[s]) for s in (np.s_[:4], np.s_[4:], np.s_[:]))
        with np.errstate(all="ignore"):
            got = student(one, other)
            m = np.maximum(one[0], other[0])
            left, right = np.exp(one[0] - m), np.exp(other[0] - m)
        require(isinstance(got, tuple | list) and len(got) == 3, "Return three arrays: m, l and u.")
        got = [_shape(x, y.shape, axes) for x, y, axes in zip(got, whole, ("(T, 1)", "(T, 1)", "(T, e)"), strict=True)]
        require(
            case != "empty" or not np.isnan(np.concatenate(got, axis=1)).any(),
            "A part without any allowed key gave 'not a number': with m = −∞ its factor e^(m − m') is simply zero.",
        )
        require(
            np.isfinite(got[1]).all() and np.isfinite(got[2]).all(),
            "Large scores overflow: use only exponentials of m minus the new m, never e^m itself.",
        )
        _refuse(
            got[0],
            m,
            [
                (one[0] + other[0], "The new m is the larger of the two, not their sum."),
                (np.minimum(one[0], other[0]), "The new m is the larger of the two, not the smaller."),
                (one[0], "You kept the first m; the other one may be larger."),
                (other[0], "You kept the second m; the other one may be larger."),
                (np.full_like(m, m.max()), "You took one maximum for all queries; each query (row) has its own."),
            ],
        )
        require(_same(got[0], m), f"m should be {m.ravel().round(3)}, got {got[0].ravel().round(3)}.")
        (_, l1, u1), (_, l2, u2) = one, other
        with np.errstate(all="ignore"):
            up, down = np.exp(m - one[0]), np.exp(m - other[0])
            wrongs = [
                (l1 + l2, u1 + u2, "You added without shrinking: each part was summed with its own maximum."),
                (l1 * left + l2, u1 * left + u2, "You shrank only the first part; the other may have the smaller m."),
                (
                    l1 + l2 * right,
                    u1 + u2 * right,
                    "You shrank only the second part; the first may have the smaller m.",
                ),
                (l1 * up + l2 * down, u1 * up + u2 * down, "The exponent has the wrong sign: it is m minus the new m."),
                (
                    l1 * right + l2 * left,
                    u1 * right + u2 * left,
                    "You exchanged the factors: each part is multiplied by e to its own m minus the new one.",
                ),
            ]
        for index, name in ((1, "l"), (2, "u")):
            expected = whole[index]
            _refuse(got[index], expected, [(wrong[index - 1], wrong[2]) for wrong in wrongs])
            if index == 2:
                average = (u1 / np.where(l1, l1, 1) + u2 / np.where(l2, l2, 1)) / 2
                _refuse(
                    got[2],
                    expected,
                    [
                        (expected / whole[1], "u is the numerator: the division by l comes at the very end."),
                        (average, "You averaged the answers of the parts; they count for as much as their sums l."),
                    ],
                )
            require(
                _same(got[index], expected, rtol=2e-3),
                f"{name} should begin with {expected[0].round(4)}, got {got[index][0].round(4)}.",
            )


@tasks.add(points=2, minutes=15)
def additive_scores(student, rng):
    """Bahdanau's scores of all pairs."""
    T, S, a, b, n = 3, 5, 4, 7, 6
    Z, Hs = rng.normal(size=(T, a)), rng.normal(size=(S, b))
    W, U, w = rng.normal(size=(n, a)), rng.normal(size=(n, b)), rng.normal(size=n)
    first, second = Z @ W.T, Hs @ U.T
    pairs = first[:, None] + second[None]
    expected = np.tanh(pairs) @ w
    got = student(Z, Hs, W, U, w)
    require(
        not (np.shape(got) == (S, T) and _same(np.transpose(got), expected)),
        "Your rows are the encoder's states; the decoder's states (the queries) come first.",
    )
    require(
        np.shape(got) != (T, S, n), "Multiply the hidden layer by w and add up, so that one number is left per pair."
    )
    got = _shape(got, (T, S), "decoder's state, encoder's state")
    _refuse(
        got,
        expected,
        [
            (
                pairs @ w,
                "The tanh is missing. Without it the score of a key is the same for every query, up to a shift.",
            ),
            (np.tanh(pairs @ w), "You took the tanh of the score; it belongs around W z + U h, before w."),
            (
                (np.tanh(first)[:, None] + np.tanh(second)[None]) @ w,
                "You took two tanhs; there is one, of the sum W z + U h. Else query and key never meet.",
            ),
            (np.tanh(first * w) @ np.tanh(second).T, "Query and key are added inside the tanh, not multiplied."),
            (np.tanh(first[:, None] * second[None]) @ w, "Query and key are added inside the tanh, not multiplied."),
            ((first * w) @ second.T, "That is a multiplicative score."),
            (first @ second.T, "That is a multiplicative score."),
            (np.tanh(pairs).sum(axis=-1), "The vector w is not used."),
            (np.tanh(pairs).mean(axis=-1), "The vector w is not used."),
            (_softmax(expected), "Those are weights already; only the scores are asked for."),
            (np.tanh(pairs) @ w / np.sqrt(n), "No scale belongs to this score: w can learn any size."),
        ],
    )
    require(_same(got, expected), f"The first row should be {expected[0].round(4)}, got {got[0].round(4)}.")


def _multi_head(X, Wq, Wk, Wv, Wo, heads, *, wrong=None):
    """Causal multi-head attention, with what can be wrong about it."""
    T, D = X.shape
    d = D // heads
    size = {"D": D, "H": heads, "T": T, "none": 1, "square": d**2}.get(wrong, d)

    def split(x):
        if wrong == "blocks":
            return x.reshape(heads, T, d)
        if wrong == "interleaved":
            return x.reshape(T, d, heads).transpose(2, 0, 1)
        return x.reshape(T, heads, d).transpose(1, 0, 2)

    q, k, v = split(X @ Wq), split(X @ Wk), split(X @ Wv)
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(size)
    mask = np.tri(T, dtype=bool)
    if wrong == "late":
        weights = _softmax(scores) * mask
    else:
        if wrong == "future":
            mask = mask.T
        elif wrong in ("blind", "backwards"):
            mask = np.ones_like(mask)
        scores = scores * mask if wrong == "zeros" else np.where(mask, scores, -np.inf)
        weights = _softmax(scores, axis=1) if wrong == "columns" else _softmax(scores)
    y = weights @ v
    joined = y.reshape(T, D) if wrong == "joined" else y.transpose(1, 0, 2).reshape(T, D)
    if wrong == "interleaved":
        joined = y.transpose(1, 2, 0).reshape(T, D)
    return joined if wrong == "no Wo" else joined @ (Wo.T if wrong == "transposed Wo" else Wo)


@tasks.add(points=4, minutes=30)
def multi_head(student, rng):
    """Causal self-attention with several heads."""
    for heads, d, T in ((3, 4, 5), (2, 3, 7), (1, 5, 4)):
        D = heads * d
        X = rng.normal(size=(T, D)) * 1.5
        matrices = [rng.normal(size=(D, D)) / np.sqrt(D) * 1.5 for _ in range(4)]
        arguments = (X, *matrices, heads)
        expected = _multi_head(*arguments)
        got = _shape(student(*arguments), (T, D), "word, length of a vector")
        messages = {
            "blind": "Your words see the future: the causal mask is missing.",
            "future": "Your mask is the wrong way round: words see the future in place of the past.",
            "late": "You masked after the softmax: mask the scores, with −∞.",
            "zeros": "You multiplied the scores by the mask: a score of 0 still has the share e⁰ = 1. Forbidden is −∞.",
            "D": "You divided by √D; each head has its own key of length d = D/H.",
            "none": "The scale is missing: divide the scores by √d.",
            "square": "You divided by d; its root belongs there.",
            "H": "You divided by the root of the number of heads; d = D/H is the length of a head's key.",
            "T": "You divided by the root of the number of words; d = D/H is the length of a head's key.",
            "blocks": "Your `reshape(heads, T, d)` gives the first head the first words whole. Split the last axis "
            "into (heads, d) first, then move the axis of the heads to the front.",
            "joined": "Your heads are joined in the wrong order: move the axis of the heads back behind the words' "
            "before you reshape to (T, D).",
            "interleaved": "Your head number 0 takes every H-th number; it should take the first d numbers.",
            "columns": "You normalised over the queries; the weights of one query sum to one over the keys.",
            "no Wo": "The last product, with Wo, is missing.",
            "transposed Wo": "Vectors are rows here: multiply by Wo, not by its transpose.",
        }
        wrongs = [(_multi_head(*arguments, wrong=name), message) for name, message in messages.items()]
        if heads > 1:
            wrongs.append(
                (
                    _multi_head(*arguments[:-1], 1),
                    "You computed one single head, of length D: each head has own weights.",
                )
            )
        _refuse(got, expected, wrongs)
        first = X[:1] @ matrices[2] @ matrices[3]  # the first word sees itself only
        require(
            _same(got[:1], first),
            f"With {heads} heads: the first word sees only itself, so its row should be X[0] @ Wv @ Wo, "
            f"{first[0, :4].round(3)} …, got {got[0, :4].round(3)} ….",
        )
        require(
            _same(got, expected),
            f"With {heads} heads of length {d} the last row should begin with {expected[-1, :4].round(4)}, got "
            f"{got[-1, :4].round(4)}.",
        )
