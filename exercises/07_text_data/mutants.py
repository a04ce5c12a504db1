"""Plausible wrong answers to the exercises on text data, each with the message that must reject it."""

import re
import unicodedata
from collections import Counter

import numpy as np

from lmcore.checking import mutant


def _nfc(text):
    """The right normal form."""
    return unicodedata.normalize("NFC", text)


@mutant("letter_runs", rejected_with="The Chinese is gone")
def knows_only_english(text):
    return re.findall("[A-Za-z]+", _nfc(text))


@mutant("letter_runs", rejected_with="You glued the runs together")
def glues_all_letters(text):
    letters = "".join(filter(str.isalpha, _nfc(text)))
    return [letters] if letters else []


@mutant("letter_runs", rejected_with="You return single letters")
def returns_single_letters(text):
    return re.findall(r"[^\W\d_]", _nfc(text))


@mutant("letter_runs", rejected_with="Letters may be of any script")
def knows_english_and_chinese(text):
    return re.findall("[A-Za-z\u00c0-\u017f\u4e00-\u9fff]+", _nfc(text))


@mutant("letter_runs", rejected_with="Digits are no letters")
def takes_digits_for_letters(text):
    return re.findall(r"\w+", _nfc(text))


@mutant("letter_runs", rejected_with="The underscore is no letter")
def takes_the_underscore_for_a_letter(text):
    return re.findall(r"[^\W\d]+", _nfc(text))


@mutant("letter_runs", rejected_with="normalise to NFC first")
def does_not_normalise(text):
    return re.findall(r"[^\W\d_]+", text)


@mutant("letter_runs", rejected_with="normalise to NFC first")
def normalises_afterwards(text):
    return [_nfc(run) for run in re.findall(r"[^\W\d_]+", text)]


@mutant("letter_runs", rejected_with="that is NFKC")
def takes_the_other_form(text):
    return re.findall(r"[^\W\d_]+", unicodedata.normalize("NFKC", text))


@mutant("letter_runs", rejected_with="Keep capitals")
def folds_case(text):
    return re.findall(r"[^\W\d_]+", _nfc(text).lower())


@mutant("letter_runs", rejected_with="Keep the accents")
def drops_accents(text):
    plain = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return re.findall(r"[^\W\d_]+", plain)


@mutant("letter_runs", rejected_with="Punctuation separates runs")
def splits_at_spaces_only(text):
    runs = re.split(r"[\s\d_,]+", _nfc(text))
    return [run for run in ("".join(filter(str.isalpha, run)) for run in runs) if run]


def _set(text, n):
    """The right shingles."""
    return {text[i : i + n] for i in range(max(1, len(text) - n + 1))} if text else set()


def _share(both, all_of_them):
    """A quotient that is 1 for nothing of nothing."""
    return both / all_of_them if all_of_them else 1.0


@mutant("similarity", rejected_with="both shorter than n are one shingle each")
def forgets_the_short_texts(a, b, n):
    one, other = ({text[i : i + n] for i in range(len(text) - n + 1)} for text in (a, b))
    return len(one & other) / len(one | other) if one | other else 1.0


@mutant("similarity", rejected_with="(Dice)")
def divides_by_the_mean_size(a, b, n):
    A, B = _set(a, n), _set(b, n)
    return _share(2 * len(A & B), len(A) + len(B))


@mutant("similarity", rejected_with="by the smaller set")
def divides_by_the_smaller_set(a, b, n):
    A, B = _set(a, n), _set(b, n)
    return _share(len(A & B), min(len(A), len(B)))


@mutant("similarity", rejected_with="counted twice")
def divides_by_the_sum(a, b, n):
    A, B = _set(a, n), _set(b, n)
    return _share(len(A & B), len(A) + len(B))


@mutant("similarity", rejected_with="Jaccard is symmetric")
def divides_by_the_first_set(a, b, n):
    A, B = _set(a, n), _set(b, n)
    return _share(len(A & B), len(A))


@mutant("similarity", rejected_with="counted repetitions")
def counts_repetitions(a, b, n):
    A, B = (Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in (a, b))
    return _share((A & B).total(), (A | B).total())


@mutant("similarity", rejected_with="single characters")
def compares_letters(a, b, n):
    return _share(len(set(a) & set(b)), len(set(a) | set(b)))


@mutant("similarity", rejected_with="That is the distance")
def returns_the_distance(a, b, n):
    A, B = _set(a, n), _set(b, n)
    return 1 - _share(len(A & B), len(A | B))


@mutant("similarity", rejected_with="The last shingle of each text is missing")
def stops_one_early(a, b, n):
    A, B = ({text[i : i + n] for i in range(len(text) - n)} for text in (a, b))
    return _share(len(A & B), len(A | B))


@mutant("similarity", rejected_with="shingles overlap")
def cuts_blocks(a, b, n):
    A, B = ({text[i : i + n] for i in range(0, len(text) - n + 1, n)} for text in (a, b))
    return _share(len(A & B), len(A | B))


@mutant("similarity", rejected_with="shorter than n is one shingle")
def loses_short_texts(a, b, n):
    A, B = ({text[i : i + n] for i in range(len(text) - n + 1)} for text in (a, b))
    return len(A & B) / len(A | B) if A | B else 0.0


@mutant("similarity", rejected_with="as a single shingle is not in the longer text")
def shortens_the_shingles(a, b, n):
    n = min(n, len(a), len(b))
    A, B = ({text[i : i + n] for i in range(len(text) - n + 1)} if n else set(text) for text in (a, b))
    return _share(len(A & B), len(A | B))


@mutant("similarity", rejected_with="Two empty texts are alike")
def takes_nothing_for_different(a, b, n):
    A, B = _set(a, n), _set(b, n)
    return len(A & B) / max(1, len(A | B))


@mutant("signature", rejected_with="You return which shingle comes first")
def returns_the_shingles(numbers, ranks):
    numbers = np.asarray(numbers)
    return numbers[ranks[:, numbers].argmin(axis=1)]


@mutant("signature", rejected_with="(argmin)")
def returns_where_it_stands(numbers, ranks):
    return ranks[:, numbers].argmin(axis=1)


@mutant("signature", rejected_with="the maximum")
def takes_the_last(numbers, ranks):
    return ranks[:, numbers].max(axis=1)


@mutant("signature", rejected_with="over the text's shingles")
def goes_along_the_other_axis(numbers, ranks):
    return ranks[:, numbers].min(axis=0)


@mutant("signature", rejected_with="first shingle in the list")
def looks_at_one_shingle(numbers, ranks):
    return ranks[:, numbers[0]]


@mutant("signature", rejected_with="You read a row as the list of shingles")
def reads_the_order_backwards(numbers, ranks):
    places = np.argsort(ranks, axis=1)
    return places[:, numbers].min(axis=1)


@mutant("signature", rejected_with="only those of this text count")
def takes_all_shingles(numbers, ranks):
    return ranks.min(axis=1)


@mutant("signature", rejected_with="Return one number for each of the")
def takes_one_minimum(numbers, ranks):
    return ranks[:, numbers].min()


def _largest(total, condition):
    """The largest divisor with a property."""
    return max((r for r in range(1, total + 1) if total % r == 0 and condition(r, total // r)), default=0)


@mutant("most_rows", rejected_with="You return total nearly always")
def swaps_rows_and_bands(total, similarity, recall):
    return _largest(total, lambda r, b: 1 - (1 - similarity**b) ** r >= recall)


@mutant("most_rows", rejected_with="You return total nearly always")
def computes_what_is_missed(total, similarity, recall):
    return _largest(total, lambda r, b: (1 - similarity**r) ** b >= recall)


@mutant("most_rows", rejected_with="one certain band")
def looks_at_one_band(total, similarity, recall):
    return _largest(total, lambda r, b: similarity**r >= recall)


@mutant("most_rows", rejected_with="all minima agree")
def wants_all_bands(total, similarity, recall):
    return _largest(total, lambda r, b: (similarity**r) ** b >= recall)


@mutant("most_rows", rejected_with="You return total nearly always")
def swaps_and_or(total, similarity, recall):
    return _largest(total, lambda r, b: (1 - (1 - similarity) ** r) ** b >= recall)


@mutant("most_rows", rejected_with="does not divide")
def does_not_divide(total, similarity, recall):
    return max((r for r in range(1, total + 1) if 1 - (1 - similarity**r) ** (total / r) >= recall), default=0)


@mutant("most_rows", rejected_with="the middle of the curve")
def uses_the_middle_of_the_curve(total, similarity, recall):
    return _largest(total, lambda r, b: (1 / b) ** (1 / r) <= similarity)


@mutant("most_rows", rejected_with="the number of bands")
def returns_the_bands(total, similarity, recall):
    rows = _largest(total, lambda r, b: 1 - (1 - similarity**r) ** b >= recall)
    return total // rows if rows else 0


@mutant("most_rows", rejected_with="find the largest")
def returns_the_smallest(total, similarity, recall):
    found = [r for r in range(1, total + 1) if total % r == 0 and 1 - (1 - similarity**r) ** (total // r) >= recall]
    return min(found, default=0)


@mutant("most_rows", rejected_with="no number of rows is enough")
def always_takes_one_at_least(total, similarity, recall):
    return max(1, _largest(total, lambda r, b: 1 - (1 - similarity**r) ** b >= recall))


def _cut(text, words, backward=True, shortest=False):
    """Maximum matching."""
    found, words = [], set(words)
    while text:
        sizes = range(2, len(text) + 1) if shortest else range(len(text), 1, -1)
        fits = (n for n in sizes if (text[-n:] if backward else text[:n]) in words)
        n = next(fits, 1)
        found.append(text[-n:] if backward else text[:n])
        text = text[:-n] if backward else text[n:]
    return found[::-1] if backward else found


@mutant("cut_from_the_right", rejected_with="You matched from the left")
def matches_from_the_left(text, words):
    return _cut(text, words, backward=False)


@mutant("cut_from_the_right", rejected_with="turn the list round")
def forgets_to_turn_the_list(text, words):
    return _cut(text, words)[::-1]


@mutant("cut_from_the_right", rejected_with="turn them round")
def turns_the_text_round(text, words):
    return [word[::-1] for word in _cut(text, words)[::-1]]


@mutant("cut_from_the_right", rejected_with="You took the shortest word")
def takes_the_shortest(text, words):
    return _cut(text, words, shortest=True)


@mutant("cut_from_the_right", rejected_with="unknown characters stand alone")
def keeps_unknown_characters_together(text, words):
    found, run = [], ""
    for piece in _cut(text, words):
        if piece in words:
            found, run = [*found, *([run] if run else []), piece], ""
        else:
            run += piece
    return [*found, run] if run else found


@mutant("cut_from_the_right", rejected_with="Characters are lost")
def drops_unknown_characters(text, words):
    return [piece for piece in _cut(text, words) if piece in words]


@mutant("cut_from_the_right", rejected_with="go on as before")
def gives_up_at_unknown_characters(text, words):
    last = text[-1:]
    if text and not any(text.endswith(word) for word in words):
        return [*text[:-1], last]
    return _cut(text, words)


@mutant("cut_from_the_right", rejected_with="A word may be the whole text")
def never_takes_the_whole_text(text, words):
    if text in words and len(text) == 3:
        return [text[0], text[1:]]
    return _cut(text, words)


def _viterbi(start, follow, emit):
    """The right tags."""
    best, back = start + emit[0], []
    for emitted in emit[1:]:
        ways = best[:, None] + follow
        back.append(ways.argmax(axis=0))
        best = ways.max(axis=0) + emitted
    path = [int(best.argmax())]
    for came_from in reversed(back):
        path.append(int(came_from[path[-1]]))
    return path[::-1]


@mutant("best_tags", rejected_with="You decided each tag at once")
def decides_at_once(start, follow, emit):
    path = [int((start + emit[0]).argmax())]
    for emitted in emit[1:]:
        path.append(int((follow[path[-1]] + emitted).argmax()))
    return path


@mutant("best_tags", rejected_with="walk back from the last")
def takes_the_best_end_at_each_place(start, follow, emit):
    best = start + emit[0]
    path = [int(best.argmax())]
    for emitted in emit[1:]:
        best = (best[:, None] + follow).max(axis=0) + emitted
        path.append(int(best.argmax()))
    return path


@mutant("best_tags", rejected_with="forgot which tags may follow")
def looks_at_emissions_only(start, follow, emit):
    return emit.argmax(axis=1).tolist()


@mutant("best_tags", rejected_with="in the wrong order")
def forgets_to_turn_round(start, follow, emit):
    return _viterbi(start, follow, emit)[::-1]


@mutant("best_tags", rejected_with="The probabilities of the first tag")
def forgets_the_start(start, follow, emit):
    return _viterbi(np.zeros_like(start), follow, emit)


@mutant("best_tags", rejected_with="you use it from b to a")
def transposes_the_steps(start, follow, emit):
    return _viterbi(start, follow.T, emit)


@mutant("best_tags", rejected_with="The emission of the first character")
def forgets_the_first_character(start, follow, emit):
    emit = emit.copy()
    emit[0] = 0
    return _viterbi(start, follow, emit)


@mutant("best_tags", rejected_with="the least probable tags")
def minimises(start, follow, emit):
    return _viterbi(-start, -follow, -emit)


@mutant("best_tags", rejected_with="the product of so many probabilities is 0")
def multiplies_probabilities(start, follow, emit):
    start, follow, emit = np.exp(start), np.exp(follow), np.exp(emit)
    best, back = start * emit[0], []
    for emitted in emit[1:]:
        ways = best[:, None] * follow
        back.append(ways.argmax(axis=0))
        best = ways.max(axis=0) * emitted
    path = [int(best.argmax())]
    for came_from in reversed(back):
        path.append(int(came_from[path[-1]]))
    return path[::-1]


def _take(order, groups, share):
    """Whole groups in an order until there are enough texts."""
    chosen = np.zeros(len(groups), dtype=bool)
    for group in order:
        if chosen.sum() >= share * len(groups):
            break
        chosen |= groups == group
    return chosen


@mutant("choose_test", rejected_with="copies of test texts stay in training")
def deals_single_texts(groups, share, rng):
    chosen = np.zeros(len(groups), dtype=bool)
    chosen[rng.permutation(len(groups))[: int(np.ceil(share * len(groups)))]] = True
    return chosen


@mutant("choose_test", rejected_with="take all members of a group")
def takes_one_text_of_each_group(groups, share, rng):
    _, firsts = np.unique(groups, return_index=True)
    chosen = np.zeros(len(groups), dtype=bool)
    chosen[rng.permutation(firsts)[: int(np.ceil(share * len(groups)))]] = True
    return chosen


@mutant("choose_test", rejected_with="shuffle the groups with rng")
def does_not_shuffle(groups, share, rng):
    groups = np.asarray(groups)
    return _take(np.unique(groups), groups, share)


@mutant("choose_test", rejected_with="share is of the texts")
def counts_groups(groups, share, rng):
    groups = np.asarray(groups)
    order = rng.permutation(np.unique(groups))
    return np.isin(groups, order[: int(np.ceil(share * len(order)))])


@mutant("choose_test", rejected_with="less than the share")
def stops_before_it_is_too_much(groups, share, rng):
    groups = np.asarray(groups)
    chosen = np.zeros(len(groups), dtype=bool)
    for group in rng.permutation(np.unique(groups)):
        if (chosen | (groups == group)).sum() > share * len(groups):
            break
        chosen |= groups == group
    return chosen if chosen.any() else groups == groups[0]


@mutant("choose_test", rejected_with="is cut")
def cuts_the_last_group(groups, share, rng):
    groups = np.asarray(groups)
    order = {group: place for place, group in enumerate(rng.permutation(np.unique(groups)))}
    places = sorted(range(len(groups)), key=lambda i: order[groups[i]])
    chosen = np.zeros(len(groups), dtype=bool)
    chosen[places[: int(np.ceil(share * len(groups)))]] = True
    return chosen


@mutant("choose_test", rejected_with="draw from rng only")
def draws_elsewhere(groups, share, rng):
    groups = np.asarray(groups)
    return _take(np.random.default_rng().permutation(np.unique(groups)), groups, share)


@mutant("choose_test", rejected_with="You took more groups than needed")
def takes_the_other_side(groups, share, rng):
    groups = np.asarray(groups)
    return ~_take(rng.permutation(np.unique(groups)), groups, share)


@mutant("choose_test", rejected_with="Return a bool for each text")
def returns_numbers(groups, share, rng):
    groups = np.asarray(groups)
    return np.flatnonzero(_take(rng.permutation(np.unique(groups)), groups, share))
