"""Checks of the exercises on BERT; the inputs are drawn anew from each seed."""

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


def _unit(x):
    """Rows of length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@tasks.add(points=1, minutes=10)
def mean_pooling(student, rng):
    """Vectors of sentences from vectors of tokens."""
    B, T, d = 4, 7, 5
    hidden = rng.normal(size=(B, T, d)) + 1.5 * rng.normal(size=(B, 1, d))
    lengths = rng.permutation([2, 3, 5, 6])
    real = np.arange(T) < lengths[:, None]
    weight = real[..., None]
    total = (weight * hidden).sum(axis=1)
    mean = total / lengths[:, None]
    expected = _unit(mean)
    got = _shape(student(hidden, real), (B, d), "text, entry")
    _refuse(
        got,
        expected,
        [
            (mean, "The vectors do not have length 1: divide each by its norm."),
            (total, "That is the sum of the real tokens' vectors, and its length is not 1."),
            (_unit(hidden.mean(axis=1)), "You averaged over padding too: multiply by the mask before you add."),
            (hidden.mean(axis=1), "You averaged over padding too, and the length is not 1."),
            (
                mean / np.linalg.norm(mean),
                "You divided by the norm of the whole batch; each text's vector has its own.",
            ),
            (mean / np.linalg.norm(mean, axis=0), "You took norms of columns; each row, a text, gets length 1."),
            (_unit(hidden[:, 0]), "You took the vector of [CLS]; the mean of all real tokens is asked for."),
            (
                _unit((~weight * hidden).sum(axis=1)),
                "You averaged the padding and left out the text: real is True for real tokens.",
            ),
            (
                _unit((weight * _unit(hidden)).sum(axis=1)),
                "You brought the tokens to length 1 before the mean; only the mean gets length 1.",
            ),
            (_unit(np.where(weight, hidden, -np.inf).max(axis=1)), "That is the maximum, not the mean."),
        ],
    )
    require(_same(got, expected), f"The first vector should be {expected[0].round(4)}, got {got[0].round(4)}.")
    single = _shape(student(hidden[:1], real[:1]), (1, d), "text, entry")
    require(_same(single, expected[:1]), "A text's vector changed when the other texts of the batch were taken away.")
    as_numbers = _shape(student(hidden, real.astype(int)), (B, d), "text, entry")
    require(
        _same(as_numbers, expected),
        "With a mask of 0 and 1 instead of False and True the answer is another: to "
        "pick tokens with it, use real.astype(bool).",
    )


@tasks.add(points=1, minutes=10)
def pair_input(student, rng):
    """[CLS] first [SEP] second [SEP]."""
    cls, sep = rng.permutation(np.arange(100, 200))[:2].tolist()
    first, second = (rng.integers(1000, 9000, size=n).tolist() for n in (int(rng.integers(2, 5)), 5))
    for b in (second, None):
        ids = [cls, *first, sep] + ([] if b is None else [*b, sep])
        segments = [0] * (len(first) + 2) + ([] if b is None else [1] * (len(b) + 1))
        got = student(first, b, cls, sep)
        require(isinstance(got, tuple | list) and len(got) == 2, "Return two lists: ids and segments.")
        mine, kinds = ([int(x) for x in part] for part in got)
        if b is None:
            require(
                mine != [cls, *first, sep, sep], "With one segment there is one [SEP]: nothing follows the first one."
            )
            require(mine == ids, f"One segment: expected the ids {ids}, got {mine}.")
            require(kinds == segments, f"One segment: all tokens are of segment 0, got {kinds}.")
            continue
        require(mine != [cls, *first, *second, sep], "The [SEP] between the segments is missing.")
        require(mine != [cls, *first, sep, *second], "The last [SEP] is missing: each segment ends with one.")
        require(mine != [*first, sep, *second, sep], "[CLS] is missing: each row begins with it.")
        require(
            mine != [cls, *first, sep, cls, *second, sep],
            "There is one [CLS] per row, at the beginning, and none before the second segment.",
        )
        require(mine == ids, f"Expected the ids {ids}, got {mine}.")
        require(
            len(kinds) == len(ids),
            f"There must be a segment for every token, special ones too: {len(ids)} ids, {len(kinds)} segments.",
        )
        n = len(first)
        require(
            kinds != [0] * (n + 1) + [1] * (len(second) + 2),
            "The [SEP] after the first segment belongs to it: its segment is 0.",
        )
        require(kinds != [x + 1 for x in segments], "Segments are counted from 0.")
        require(kinds != [1 - x for x in segments], "The first segment has the number 0, the second 1.")
        require(kinds != [*segments[:-1], 0], "The last [SEP] belongs to the second segment: its segment is 1, not 0.")
        require(kinds == segments, f"Expected the segments {segments}, got {kinds}.")


@tasks.add(points=2, minutes=15)
def choose_tokens(student, rng):
    """Which tokens the model will be asked for."""
    B, T, special, rate = 7, 9, [0, 2, 3, 4, 57], float(rng.choice([0.1, 0.2, 0.4]))
    ids = rng.integers(5, 57, size=(B, T))
    ids[:, 0], ids[:, -1] = 2, 3
    ids[2, 5:] = [3, 0, 0, 0]
    ids[4, 1:] = [3, 0, 0, 0, 0, 0, 0, 0]  # nothing but special tokens
    draws = rate + (1 - rate) * rng.uniform(0.1, 1, size=(B, T))
    draws[:, 1] = np.maximum(draws[:, 1], 0.98)  # where none is below the rate, the first is not the smallest
    spots = rng.permutation(np.arange(1, 8))[:5]  # some of them just below the rate, and just above
    draws[0, spots] = np.array([0.2, 0.3, 0.95, 1.05, 1.2]) * rate
    ids[3, 4], draws[3, 4] = 57, 0.02  # a special token whose id is not small
    draws[2, 6] = draws[4, 2] = draws[1, 0] = draws[3, 8] = 0.01  # small ones at special tokens
    draws[5, 3] = 0.05
    draws[6, [0, 8]] = 0.99  # nothing below the rate anywhere, and the smallest is an ordinary one
    ordinary = ~np.isin(ids, special)
    plain = ordinary & (draws < rate)
    smallest = np.where(ordinary, draws, 2)
    smallest = ordinary & (smallest == smallest.min(axis=1, keepdims=True))
    expected = plain | (smallest & ~plain.any(axis=1, keepdims=True))
    got = _shape(student(ids, special, rate, draws), (B, T), "row, token")
    require(np.isin(got, (0, 1)).all(), "Return True and False, nothing else.")
    got = got.astype(bool)
    anywhere = draws < rate
    require(
        not np.array_equal(got, anywhere | ((draws == draws.min(axis=1, keepdims=True)) & ~anywhere.any(1)[:, None]))
        and not np.array_equal(got, anywhere),
        "You chose special tokens too: [CLS], [SEP] and padding are never hidden.",
    )
    require(not got[3, 4], "You chose a token that stands in special: which ids are special, only that list says.")
    require(not np.array_equal(got, plain), "A row where no number is below the rate got nothing: choose one there.")
    require(
        not got[4].any(), "A row of special tokens alone got a token: there is nothing to choose, so it stays without."
    )
    late = anywhere | ((draws == draws.min(axis=1, keepdims=True)) & ~anywhere.any(axis=1, keepdims=True))
    require(
        not np.array_equal(got, late & ordinary),
        "A small number at a special token made you believe that the row has its choice already: look at ordinary "
        "tokens only before you ask whether there is one.",
    )
    for fixed in (0.15, 0.3):
        by_heart = ordinary & (draws < fixed)
        by_heart |= smallest & ~by_heart.any(axis=1, keepdims=True)
        require(not np.array_equal(got, by_heart), f"Your rate is always {fixed}; it is an argument, here {rate}.")
    require(
        not np.array_equal(got, ordinary & (draws >= rate)), "You chose where the number is above the rate; below it."
    )
    require(not np.array_equal(got, smallest), "You chose one token per row; all below the rate are chosen.")
    every = plain | (ordinary & ~plain.any(axis=1, keepdims=True))
    require(
        not np.array_equal(got, every), "In a row without a choice you took all tokens; one, with the smallest number."
    )
    first = np.cumsum(ordinary, axis=1) == 1
    require(
        not np.array_equal(got, plain | (first & ordinary & ~plain.any(axis=1, keepdims=True))),
        "In a row without a choice you took the first ordinary token; take the one with the smallest number.",
    )
    require(np.array_equal(got, expected), f"Expected\n{expected.astype(int)}\ngot\n{got.astype(int)}")


@tasks.add(points=2, minutes=15)
def damage(student, rng):
    """80 % masked, 10 % replaced, 10 % kept."""
    B, T, mask_id = 4, 11, int(rng.integers(100, 200))
    ids = rng.integers(5, 60, size=(B, T))
    random_ids = rng.integers(60, 99, size=(B, T))
    kind = rng.uniform(0, 1, size=(B, T))
    chosen = rng.random((B, T)) < 0.5
    spots = rng.permutation(B * T)[:14]  # all three fates, for chosen ones and for the others
    kind.flat[spots] = [0.3, 0.85, 0.95, 0.3, 0.85, 0.95, 0.85, 0.95, 0.1, 0.15, 0.83, 0.97, 0.8, 0.9]
    chosen.flat[spots] = [True] * 3 + [False] * 3 + [True] * 8
    masked, swapped = chosen & (kind < 0.8), chosen & (kind >= 0.8) & (kind < 0.9)
    inputs = np.where(masked, mask_id, np.where(swapped, random_ids, ids))
    labels = np.where(chosen, ids, -100)
    got = student(ids, chosen, kind, random_ids, mask_id)
    require(isinstance(got, tuple | list) and len(got) == 2, "Return two arrays: inputs and labels.")
    mine, mine_labels = (_shape(x, (B, T), "row, token") for x in got)
    all_kinds = np.where(kind < 0.8, mask_id, np.where(kind < 0.9, random_ids, ids))
    wrongs = [
        (all_kinds, "You damaged tokens that were not chosen: they stay as they are, whatever their number says."),
        (np.where(chosen, mask_id, ids), "All chosen tokens became [MASK]; a fifth of them must not."),
        (np.where(masked, mask_id, ids), "No token was replaced by a random one: those from 0.8 to 0.9 are missing."),
        (
            np.where(masked, mask_id, np.where(chosen, random_ids, ids)),
            "No chosen token stayed as it was: from 0.9 on they do.",
        ),
        (
            np.where(chosen & (kind < 0.1), random_ids, np.where(chosen & (kind >= 0.2), mask_id, ids)),
            "You took the numbers from the other end: below 0.8 a token becomes [MASK].",
        ),
        (
            np.where(chosen & (kind < 0.9), random_ids, ids),
            "The random tokens overwrote the masks: they belong from 0.8 to 0.9 only.",
        ),
        (
            np.where(masked, mask_id, np.where(chosen & (kind >= 0.9), random_ids, ids)),
            "From 0.8 to 0.9 comes the random token, and from 0.9 on the token stays; yours are exchanged.",
        ),
        (
            np.where(chosen & (kind <= 0.8), mask_id, np.where(chosen & (kind <= 0.9), random_ids, ids)),
            "The borders are off: 0.8 itself gets the random token, and 0.9 itself stays.",
        ),
    ]
    _refuse(mine, inputs, wrongs)
    require(_same(mine, inputs), f"The first row of the inputs should be {inputs[0]}, got {mine[0].astype(int)}.")
    _refuse(
        mine_labels,
        labels,
        [
            (ids, "Your labels ask for every token; −100 belongs where nothing was chosen."),
            (
                np.where(masked, ids, -100),
                "Your labels ask for the masked tokens only; the replaced and the kept ones were chosen too.",
            ),
            (
                np.where(masked | swapped, ids, -100),
                "Your labels leave out the chosen tokens that stayed; the model is asked for them too.",
            ),
            (np.where(chosen, inputs, -100), "Your labels hold what the model reads; they must hold the true tokens."),
            (np.where(chosen, -100, ids), "Your labels are exchanged: the true id where a token *was* chosen."),
            (np.where(chosen, ids, 0), "Where nothing was chosen stands −100; 0 is the id of a token."),
        ],
    )
    require(
        _same(mine_labels, labels),
        f"The first row of the labels should be {labels[0]}, got {mine_labels[0].astype(int)}.",
    )


def _surprise(logits, labels):
    """−log p of each label, (B, T)."""
    z = logits - logits.max(axis=-1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(logp, np.maximum(labels, 0)[..., None], axis=-1)[..., 0]


@tasks.add(points=2, minutes=15)
def mlm_loss(student, rng):
    """The average surprise at the hidden tokens."""
    B, T, V = 3, 7, 11
    while True:  # until the mistakes below can be told from the right answer
        logits = 2 * rng.normal(size=(B, T, V))
        labels = np.full((B, T), -100)
        for b, n in enumerate(rng.permutation([1, 2, 4])):  # rows with different numbers of chosen tokens
            labels[b, rng.choice(T, size=n, replace=False)] = rng.integers(0, V, size=n)
        labels.flat[rng.choice(np.flatnonzero(labels >= 0))] = 0  # token 0 is a token like any other
        chosen = labels >= 0
        each = _surprise(logits, labels)
        expected = each[chosen].mean()
        by_row = np.array([each[b, chosen[b]].mean() for b in range(B)])
        probability = np.exp(-each[chosen])
        positive = chosen & (labels > 0)
        confusable = [each.mean(), by_row.mean(), each[positive].mean(), -np.log(probability.mean()), np.exp(expected)]
        if min(np.abs(np.array(confusable) / expected - 1)) > 0.05:
            break
    shifts = np.zeros((B, T, 1))
    shifts[chosen] = rng.permutation([0, 1000, -1000, 0, 1000, -1000, 1000])[:, None]  # one for each place
    for shift in (0, shifts):
        with np.errstate(all="ignore"):
            got = np.asarray(student(logits + shift, labels), dtype=float)
        require(got.shape == (), f"Return one number for the whole batch; yours has the shape {got.shape}.")
        require(
            np.isfinite(got),
            f"Logits around 0, 1000 and -1000 gave {got}: subtract the largest logit of each place before the "
            "exponential.",
        )
        _refuse(
            got,
            expected,
            [
                ((each * chosen).mean(), "You divided by the number of all tokens; divide by that of the chosen ones."),
                (each.mean(), "You averaged over all positions, and took −100 for token 0."),
                ((each * chosen).sum(), "That is the sum; the loss is the mean over the chosen tokens."),
                (
                    by_row.mean(),
                    "You averaged each row first; all chosen tokens of the batch count equally.",
                ),
                ((each * chosen).sum() / B, "You divided by the number of rows; divide by that of the chosen tokens."),
                (expected / np.log(2), "Those are bits; use the natural logarithm."),
                (-expected, "The sign is wrong: surprise is −log p."),
                (1 - probability.mean(), "You averaged probabilities; the loss is the average of −log p."),
                (-np.log(probability.mean()), "The logarithm of the average is not the average of the logarithms."),
                (np.exp(expected), "That is the perplexity; the loss is its logarithm."),
                (each[positive].mean(), "You left out a label that is 0: it is a token's id; only −100 is to be left."),
                (
                    -logits[chosen][np.arange(chosen.sum()), labels[chosen]].mean(),
                    "There is no softmax: logits are no log-probabilities.",
                ),
            ],
        )
        require(_same(got, expected, rtol=2e-3), f"Expected {expected:.4f} nats, got {got:.4f}.")


def _parts(V, P, d):
    """Parameters of the embeddings with their norm, and of a block."""
    return (V + P + 2) * d + 2 * d, 4 * (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d


@tasks.add(points=2, minutes=15)
def bert_size(student, rng):
    """The parameters of a stack, shared or not."""
    V, P, d, L = (int(rng.integers(a, b)) for a, b in ((1000, 30_000), (64, 512), (32, 200), (3, 13)))
    d *= 4
    base, block = _parts(V, P, d)
    for shared in (False, True):
        n = 1 if shared else L
        expected = base + n * block
        got = student(V, P, d, L, shared)
        got = np.asarray(got, dtype=float)
        require(got.shape == (), "Return one number.")
        case = f"for V = {V}, {P} positions, d = {d}, {L} layers, shared = {shared}"
        wrongs = [
            (base + L * block, "You counted a shared block once per layer: it is computed often and stored once."),
            (base, "You left out the blocks: a shared block is still one block."),
            (base + block, "You counted one block; without sharing each layer has its own."),
            (expected - 2 * d, "A table or a norm is missing: two segments, or the layer norm after the tables."),
            (expected - P * d, "The table of positions is missing."),
            (expected - 2 * d - 2 * d, "The layer norm after the tables and the segments' table are missing."),
            (
                expected - n * 4 * d,
                "4d per block are missing: the two layer norms of a block (scale and shift each) or the biases of "
                "attention.",
            ),
            (expected - n * 2 * d, "A layer norm has a scale *and* a shift, and a block has two layer norms."),
            (expected - n * 5 * d, "5d per block are missing: the biases of the network, 4d and d."),
            (expected - n * 9 * d, "The biases are missing: four of attention, 4d and d of the network."),
            (expected - n * 4 * d - n * 5 * d - n * 4 * d, "Biases and norms of the blocks are missing."),
            (expected - n * d * (d + 1), "Attention has four matrices: the output has one too."),
            (expected - n * 3 * d, "The network's first bias has the length of its hidden layer, 4d."),
            (
                expected + n * 12 * d * (d + 1),
                "The heads divide d among themselves; their number does not multiply the parameters.",
            ),
        ]
        for wrong, message in wrongs:  # exactly, as these are whole numbers
            require(got != wrong or wrong == expected, message)
        require(got == expected, f"Expected {expected:,} {case}, got {got:,.0f}.")


@tasks.add(points=3, minutes=20)
def from_both_sides(student, rng):
    """A hidden token from its two neighbours."""
    V, N, k = 7, 5, float(rng.uniform(1.5, 4))
    pairs = rng.integers(0, 9, size=(V, V)).astype(float)
    pairs[rng.integers(0, V)] = 0  # one token that nothing ever followed
    u = rng.dirichlet(np.full(V, 3.0)) + 0.02
    u /= u.sum()
    lefts, rights = rng.integers(0, V, size=N), rng.integers(0, V, size=N)
    empty = int(np.nonzero(pairs.sum(axis=1) == 0)[0][0])
    lefts[0] = empty

    def mixed(n, k=k, u=u):
        with np.errstate(all="ignore"):
            return (n + k * u) / (n.sum(axis=1, keepdims=True) + k)

    def normal(x):
        with np.errstate(all="ignore"):
            return x / x.sum(axis=1, keepdims=True)

    after, before = mixed(pairs), mixed(pairs.T)
    product = after[lefts] * before[rights] / u
    expected = normal(product)
    with np.errstate(all="ignore"):
        got = _shape(student(pairs, u, lefts, rights, k), (N, V), "gap, token")
    wrongs = [
        (product, "The rows do not sum to one: divide by their sum."),
        (normal(after[lefts] * before[rights]), "The division by u is missing: what both sides know by frequency "
         "alone would count twice."),
        (normal(after[lefts] * before[rights] * u), "You multiplied by u; divide by it."),
        (after[lefts], "Only the left neighbour is used."),
        (before[rights], "Only the right neighbour is used."),
        ((after[lefts] + before[rights]) / 2, "You averaged the two sides; multiply them."),
        (normal(after[lefts] * after[rights] / u), "For the right neighbour you asked what *follows* it; the gap "
         "precedes it: transpose the counts."),
        (normal(before[lefts] * after[rights] / u), "Left and right are exchanged: pairs[a, b] counts b after a."),
        (normal(before[lefts] * before[rights] / u), "For the left neighbour you asked what *precedes* it; the gap "
         "follows it."),
        (normal(mixed(pairs, V * k, np.full(V, 1 / V))[lefts] * mixed(pairs.T, V * k, np.full(V, 1 / V))[rights] / u),
         "You added k to every count (add-k); k occurrences in all are mixed in, distributed like u."),
        (normal(normal(pairs + k)[lefts] * normal(pairs.T + k)[rights] / u),
         "You added k to every count (add-k); k occurrences in all are mixed in, distributed like u."),
    ]  # fmt: skip
    _refuse(got, expected, wrongs)
    require(
        not np.isnan(got).any(),
        "There is 'not a number' among your probabilities: a token that nothing ever followed has the count 0; mix in "
        "the k occurrences before you divide.",
    )
    raw = normal(normal(pairs)[lefts] * normal(pairs.T)[rights] / u)
    rest = ~np.isnan(raw).any(axis=1)
    require(
        not (rest.any() and _same(got[rest], raw[rest])) or _same(raw[rest], expected[rest], rtol=1e-2),
        "The k occurrences are not mixed in: raw frequencies rule out what was never seen.",
    )
    require(_same(got, expected), f"The first gap should have {expected[0].round(4)}, got {got[0].round(4)}.")
