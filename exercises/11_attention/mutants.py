"""Plausible wrong answers, and what must be said to each."""

import numpy as np

from lmcore.checking import mutant


def _softmax(scores, axis=-1):
    """Softmax along an axis."""
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


# ---- one_query ----


@mutant("one_query", rejected_with="not scaled")
def forgets_the_scale(q, keys, values):
    return _softmax(keys @ q) @ values


@mutant("one_query", rejected_with="number of keys")
def scales_by_the_number_of_keys(q, keys, values):
    return _softmax(keys @ q / np.sqrt(len(keys))) @ values


@mutant("one_query", rejected_with="You divided the scores by d")
def scales_by_d(q, keys, values):
    return _softmax(keys @ q / len(q)) @ values


@mutant("one_query", rejected_with="no softmax")
def uses_scores_as_weights(q, keys, values):
    return keys @ q / np.sqrt(len(q)) @ values


@mutant("one_query", rejected_with="do not sum to one")
def does_not_normalise(q, keys, values):
    return np.exp(keys @ q / np.sqrt(len(q))) @ values


@mutant("one_query", rejected_with="best key alone")
def looks_up_hard(q, keys, values):
    return values[np.argmax(keys @ q)]


@mutant("one_query", rejected_with="averaged the keys")
def averages_the_keys(q, keys, values):
    return _softmax(keys @ q / np.sqrt(len(q))) @ keys


@mutant("one_query", rejected_with="Those are the weights")
def returns_the_weights(q, keys, values):
    return _softmax(keys @ q / np.sqrt(len(q)))


# ---- scaled_scores ----


@mutant("scaled_scores", rejected_with="scale is missing")
def only_multiplies(Q, K):
    return Q @ np.swapaxes(K, -2, -1)


@mutant("scaled_scores", rejected_with="number of keys")
def scales_by_keys(Q, K):
    return Q @ np.swapaxes(K, -2, -1) / np.sqrt(K.shape[2])


@mutant("scaled_scores", rejected_with="that of one head")
def scales_by_all_heads(Q, K):
    return Q @ np.swapaxes(K, -2, -1) / np.sqrt(Q.shape[1] * Q.shape[3])


@mutant("scaled_scores", rejected_with="You divided by d")
def divides_by_d(Q, K):
    return Q @ np.swapaxes(K, -2, -1) / Q.shape[-1]


@mutant("scaled_scores", rejected_with="not K Qᵀ")
def swaps_queries_and_keys(Q, K):
    return K @ np.swapaxes(Q, -2, -1) / np.sqrt(Q.shape[-1])


@mutant("scaled_scores", rejected_with="weights already")
def goes_on_to_the_weights(Q, K):
    return _softmax(Q @ np.swapaxes(K, -2, -1) / np.sqrt(Q.shape[-1]))


# ---- causal_mask ----


@mutant("causal_mask", rejected_with="The sense is inverted")
def means_must_not(T, S):
    return np.arange(S) > np.arange(S - T, S)[:, None]


@mutant("causal_mask", rejected_with="first T positions")
def takes_the_first_positions(T, S):
    return np.tril(np.ones((T, S), dtype=bool))


@mutant("causal_mask", rejected_with="diagonal is missing")
def forbids_the_own_position(T, S):
    return np.arange(S) < np.arange(S - T, S)[:, None]


@mutant("causal_mask", rejected_with="one position too many")
def sees_the_next(T, S):
    return np.tril(np.ones((T, S), dtype=bool), S - T + 1)


@mutant("causal_mask", rejected_with="see their own position and the future")
def takes_the_upper_triangle(T, S):
    return np.triu(np.ones((T, S), dtype=bool))


@mutant("causal_mask", rejected_with="no score yet")
def returns_scores(T, S):
    return np.where(np.tril(np.ones((T, S), dtype=bool), S - T), 0.0, -np.inf)


# ---- masked_softmax ----


@mutant("masked_softmax", rejected_with="masked after the softmax")
def masks_too_late(scores, allowed):
    return _softmax(scores) * allowed


@mutant("masked_softmax", rejected_with="does not help when the allowed weights have vanished")
def masks_late_and_divides_again(scores, allowed):
    weights = _softmax(scores) * allowed
    return weights / weights.sum(axis=1, keepdims=True)


@mutant("masked_softmax", rejected_with="e⁰ = 1")
def multiplies_the_scores(scores, allowed):
    return _softmax(scores * allowed)


@mutant("masked_softmax", rejected_with="forbade what is allowed")
def inverts_the_mask(scores, allowed):
    return _softmax(np.where(allowed, -np.inf, scores))


@mutant("masked_softmax", rejected_with="around a thousand overflow")
def subtracts_nothing(scores, allowed):
    powers = np.exp(scores) * allowed
    return powers / powers.sum(axis=1, keepdims=True)


@mutant("masked_softmax", rejected_with="not a fixed number")
def takes_the_maximum_of_zeros(scores, allowed):
    largest = np.where(allowed, scores, 0).max(axis=1, keepdims=True)
    powers = np.exp(np.where(allowed, scores, -np.inf) - largest)
    return powers / powers.sum(axis=1, keepdims=True)


@mutant("masked_softmax", rejected_with="normalised the columns")
def takes_the_wrong_axis(scores, allowed):
    return _softmax(np.where(allowed, scores, -np.inf), axis=0)


@mutant("masked_softmax", rejected_with="A forbidden key got the weight")
def subtracts_too_little(scores, allowed):
    return _softmax(scores - 10 * ~allowed)


# ---- merge ----


@mutant("merge", rejected_with="added without shrinking")
def adds(one, other):
    return np.maximum(one[0], other[0]), one[1] + other[1], one[2] + other[2]


@mutant("merge", rejected_with="shrank only the first part")
def expects_a_larger_second(one, other):
    m = np.maximum(one[0], other[0])
    shrink = np.exp(one[0] - m)
    return m, one[1] * shrink + other[1], one[2] * shrink + other[2]


@mutant("merge", rejected_with="kept the second m")
def keeps_the_second_maximum(one, other):
    shrink = np.exp(one[0] - other[0])
    return other[0], one[1] * shrink + other[1], one[2] * shrink + other[2]


@mutant("merge", rejected_with="wrong sign")
def has_the_wrong_sign(one, other):
    m = np.maximum(one[0], other[0])
    left, right = np.exp(m - one[0]), np.exp(m - other[0])
    return m, one[1] * left + other[1] * right, one[2] * left + other[2] * right


@mutant("merge", rejected_with="comes at the very end")
def divides_already(one, other):
    m = np.maximum(one[0], other[0])
    left, right = np.exp(one[0] - m), np.exp(other[0] - m)
    l = one[1] * left + other[1] * right
    return m, l, (one[2] * left + other[2] * right) / l


@mutant("merge", rejected_with="averaged the answers")
def averages_the_answers(one, other):
    m = np.maximum(one[0], other[0])
    l = one[1] * np.exp(one[0] - m) + other[1] * np.exp(other[0] - m)
    return m, l, (one[2] / one[1] + other[2] / other[1]) / 2


@mutant("merge", rejected_with="Large scores overflow")
def undoes_the_subtraction(one, other):
    m = np.maximum(one[0], other[0])
    left, right = np.exp(one[0]), np.exp(other[0])
    down = np.exp(-m)
    return m, (one[1] * left + other[1] * right) * down, (one[2] * left + other[2] * right) * down


@mutant("merge", rejected_with="each query (row) has its own")
def takes_one_maximum(one, other):
    m = np.full_like(one[0], max(one[0].max(), other[0].max()))
    left, right = np.exp(one[0] - m), np.exp(other[0] - m)
    return m, one[1] * left + other[1] * right, one[2] * left + other[2] * right


# ---- additive_scores ----


@mutant("additive_scores", rejected_with="tanh is missing")
def is_linear(Z, Hs, W, U, w):
    return ((Z @ W.T)[:, None] + (Hs @ U.T)[None]) @ w


@mutant("additive_scores", rejected_with="tanh of the score")
def takes_the_tanh_outside(Z, Hs, W, U, w):
    return np.tanh(((Z @ W.T)[:, None] + (Hs @ U.T)[None]) @ w)


@mutant("additive_scores", rejected_with="two tanhs")
def takes_two_tanhs(Z, Hs, W, U, w):
    return (np.tanh(Z @ W.T)[:, None] + np.tanh(Hs @ U.T)[None]) @ w


@mutant("additive_scores", rejected_with="multiplicative score")
def multiplies(Z, Hs, W, U, w):
    return (Z @ W.T * w) @ (Hs @ U.T).T


@mutant("additive_scores", rejected_with="w is not used")
def sums_the_hidden_layer(Z, Hs, W, U, w):
    return np.tanh((Z @ W.T)[:, None] + (Hs @ U.T)[None]).sum(axis=-1)


@mutant("additive_scores", rejected_with="come first")
def has_keys_as_rows(Z, Hs, W, U, w):
    return np.tanh((Hs @ U.T)[:, None] + (Z @ W.T)[None]) @ w


# ---- multi_head ----


def _heads(X, Wq, Wk, Wv, Wo, heads, *, split=None, join=None, mask=True, scale=None):
    """Attention in heads, of which one part can be wrong."""
    T, D = X.shape
    split = split or (lambda x: x.reshape(T, heads, D // heads).swapaxes(0, 1))
    join = join or (lambda y: y.swapaxes(0, 1).reshape(T, D))
    q, k, v = split(X @ Wq), split(X @ Wk), split(X @ Wv)
    scores = q @ k.swapaxes(1, 2) / np.sqrt(scale or D // heads)
    if mask:
        scores = np.where(np.tri(T, dtype=bool), scores, -np.inf)
    return join(_softmax(scores) @ v) @ Wo


@mutant("multi_head", rejected_with="gives the first head the first words whole")
def reshapes_only(X, Wq, Wk, Wv, Wo, heads):
    T, D = X.shape
    return _heads(X, Wq, Wk, Wv, Wo, heads, split=lambda x: x.reshape(heads, T, D // heads))


@mutant("multi_head", rejected_with="joined in the wrong order")
def joins_without_moving_the_axis(X, Wq, Wk, Wv, Wo, heads):
    return _heads(X, Wq, Wk, Wv, Wo, heads, join=lambda y: y.reshape(X.shape))


@mutant("multi_head", rejected_with="You divided by √D")
def scales_by_the_whole_length(X, Wq, Wk, Wv, Wo, heads):
    return _heads(X, Wq, Wk, Wv, Wo, heads, scale=X.shape[1])


@mutant("multi_head", rejected_with="see the future: the causal mask is missing")
def sees_everything(X, Wq, Wk, Wv, Wo, heads):
    return _heads(X, Wq, Wk, Wv, Wo, heads, mask=False)


@mutant("multi_head", rejected_with="You multiplied the scores by the mask")
def multiplies_scores_by_the_mask(X, Wq, Wk, Wv, Wo, heads):
    T, D = X.shape
    q, k, v = ((X @ W).reshape(T, heads, D // heads).swapaxes(0, 1) for W in (Wq, Wk, Wv))
    weights = _softmax(q @ k.swapaxes(1, 2) / np.sqrt(D // heads) * np.tri(T))
    return (weights @ v).swapaxes(0, 1).reshape(T, D) @ Wo


@mutant("multi_head", rejected_with="one single head")
def ignores_the_heads(X, Wq, Wk, Wv, Wo, heads):
    return _heads(X, Wq, Wk, Wv, Wo, 1)


@mutant("multi_head", rejected_with="with Wo, is missing")
def stops_before_the_last_product(X, Wq, Wk, Wv, Wo, heads):
    return _heads(X, Wq, Wk, Wv, np.eye(X.shape[1]), heads)


@mutant("multi_head", rejected_with="every H-th number")
def deals_the_numbers_out(X, Wq, Wk, Wv, Wo, heads):
    T, D = X.shape

    def split(x):
        return x.reshape(T, D // heads, heads).transpose(2, 0, 1)

    return _heads(X, Wq, Wk, Wv, Wo, heads, split=split, join=lambda y: y.transpose(1, 2, 0).reshape(T, D))


@mutant("masked_softmax", rejected_with="not the largest of all")
def subtracts_the_largest_of_all(scores, allowed):
    scores = np.where(allowed, scores, -np.inf)
    powers = np.exp(scores - scores.max())
    return powers / powers.sum(axis=1, keepdims=True)
