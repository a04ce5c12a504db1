import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.metrics.classification import accuracy, confusion_matrix, f_score, precision, recall

PEERS = [
    (precision, oracle.precision_score, {}),
    (recall, oracle.recall_score, {}),
    (f_score, oracle.f1_score, {}),
]
LABELS = "ant bee cat dog elk".split()
PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=41)
TRUTH = "cat cat cat dog dog elk".split()
GUESS = "cat cat dog dog cat dog".split()


def columns(pairs):
    return tuple(map(list, zip(*pairs, strict=True)))


def test_by_hand():
    assert accuracy(TRUTH, GUESS) == 3 / 6
    assert confusion_matrix(TRUTH, GUESS).tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert precision(TRUTH, GUESS, average=None, labels=["dog", "cat"]) == pytest.approx([1 / 3, 2 / 3])
    assert recall(TRUTH, GUESS, average=None) == pytest.approx([2 / 3, 1 / 2, 0])
    assert f_score(TRUTH, GUESS, average=None) == pytest.approx([2 / 3, 2 / 5, 0])
    assert f_score(TRUTH, GUESS, average="macro") == pytest.approx((2 / 3 + 2 / 5) / 3)
    assert f_score(TRUTH, GUESS, average="weighted") == pytest.approx((3 * 2 / 3 + 2 * 2 / 5) / 6)
    assert f_score(TRUTH, GUESS, average="micro") == pytest.approx(1 / 2)
    assert f_score(TRUTH, GUESS, average="micro", labels=["cat", "dog"]) == pytest.approx(2 * 3 / (6 + 5))
    assert f_score(TRUTH, GUESS, average=None, labels=["cat"], beta=2)[0] == pytest.approx(2 / 3)
    assert f_score(TRUTH, GUESS, average=None, labels=["dog"], beta=2)[0] == pytest.approx(5 / (5 + 2 + 4 * 1))


def test_a_class_never_predicted_has_no_precision_but_an_f_score():
    with pytest.raises(ValueError, match="precision of class 'elk' is 0/0, since it was never predicted"):
        precision(TRUTH, GUESS, average="macro")
    assert precision(TRUTH, GUESS, average="macro", zero_division=0) == pytest.approx((2 / 3 + 1 / 3) / 3)
    assert precision(TRUTH, GUESS, average="macro", zero_division=1) == pytest.approx((2 / 3 + 1 / 3 + 1) / 3)
    assert precision(TRUTH, GUESS, average="macro", zero_division=math.nan) == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert f_score(TRUTH, GUESS, average=None)[2] == 0
    with pytest.raises(ValueError, match="recall of class 'elk' is 0/0, since truth never has it"):
        recall(GUESS, TRUTH, average="macro")
    with pytest.raises(ValueError, match="f_score of class 'gnu' is 0/0, since it never occurs"):
        f_score(TRUTH, GUESS, average=None, labels=["cat", "gnu"])
    assert math.isnan(recall(TRUTH, GUESS, average="macro", labels=["gnu"], zero_division=math.nan))


@pytest.mark.parametrize("average", [None, "micro", "macro", "weighted"])
@pytest.mark.parametrize("zero", [0, 1, math.nan])
@settings(max_examples=40)
@given(pairs=PAIRS, chosen=st.none() | st.lists(st.sampled_from(LABELS), min_size=1, unique=True))
def test_as_scikit_learn(average, zero, pairs, chosen):
    truth, guess = columns(pairs)
    options = {"average": average, "labels": chosen, "zero_division": zero}
    for ours, theirs, more in PEERS:
        if average == "weighted" and not set(truth) & set(chosen or truth):
            continue  # no class has weight: no average to speak of
        if average == "weighted" and zero is math.nan and not set(truth) & set(guess):
            continue  # perhaps only undefined classes have weight; scikit-learn says 0 there
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = theirs(truth, guess, **options, **more)
        np.testing.assert_allclose(ours(truth, guess, **options, **more), expected, atol=1e-12)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(PAIRS)
def test_confusion_and_accuracy_as_scikit_learn(pairs):
    truth, guess = columns(pairs)
    assert accuracy(truth, guess) == pytest.approx(oracle.accuracy_score(truth, guess))
    every = sorted({*truth, *guess})
    assert (confusion_matrix(truth, guess) == oracle.confusion_matrix(truth, guess, labels=every)).all()
    order = LABELS[::-1]
    assert (confusion_matrix(truth, guess, labels=order) == oracle.confusion_matrix(truth, guess, labels=order)).all()


@pytest.mark.parametrize("average", [None, "micro", "macro", "weighted", "samples"])
@pytest.mark.parametrize("beta", [1.0, 0.5, 2.0])
def test_several_labels_per_example_as_scikit_learn(average, beta):
    rng = np.random.default_rng(11)
    for _ in range(30):
        truth, guess = rng.integers(2, size=(2, 7, 3))
        for ours, theirs, more in [*PEERS[:2], (f_score, oracle.fbeta_score, {"beta": beta})]:
            expected = theirs(truth, guess, average=average, zero_division=0, **more)
            np.testing.assert_allclose(ours(truth, guess, average=average, zero_division=0, **more), expected)
        assert accuracy(truth, guess) == pytest.approx(oracle.accuracy_score(truth, guess))


@given(PAIRS)
def test_averages_that_are_one_and_the_same(pairs):
    truth, guess = columns(pairs)
    for score in (precision, recall, f_score):
        assert score(truth, guess, average="micro") == pytest.approx(accuracy(truth, guess))
    assert recall(truth, guess, average="weighted", zero_division=0) == pytest.approx(accuracy(truth, guess))
    cells = confusion_matrix(truth, guess, labels=LABELS)
    assert cells.sum() == len(truth)
    assert np.trace(cells) == round(accuracy(truth, guess) * len(truth))
    assert (confusion_matrix(guess, truth, labels=LABELS) == cells.T).all()


@given(PAIRS)
def test_precision_is_the_recall_of_swapped_arguments(pairs):
    truth, guess = columns(pairs)
    for average in ("macro", None):
        ours = precision(truth, guess, average=average, zero_division=0)
        np.testing.assert_allclose(ours, recall(guess, truth, average=average, zero_division=0))


def test_labels_of_any_kind():
    for kind in (np.array(TRUTH, dtype=object), np.array([LABELS.index(x) for x in TRUTH]), np.array(TRUTH)):
        other = np.array([LABELS.index(x) for x in GUESS]) if kind.dtype.kind == "i" else GUESS
        assert f_score(kind, other, average="macro") == pytest.approx((2 / 3 + 2 / 5) / 3)
    assert accuracy([True, False], np.array([1, 1])) == 0.5


@pytest.mark.parametrize(
    ("error", "message", "truth", "guess", "options"),
    [
        (ValueError, r"truth must be labels \(N,\) or a table", [], [], {}),
        (ValueError, r"truth has shape \(3,\) and predicted \(2,\)", [0, 1, 1], [0, 1], {}),
        (ValueError, "predicted holds 0.2: pass labels, not probabilities", [0, 1], [0.2, 0.7], {}),
        (ValueError, "truth holds a NaN", [0, math.nan], [0, 1], {}),
        (TypeError, "no label could ever be equal", ["0", "1"], [0, 1], {}),
        (ValueError, "a table of zeros and ones", [[0, 2]], [[0, 1]], {}),
        (ValueError, "average must be None or one of .*'samples', got 'mean'", [0, 1], [0, 1], {"average": "mean"}),
        (ValueError, "with one label per example it is accuracy", [0, 1], [0, 1], {"average": "samples"}),
        (ValueError, "labels must be a list of different labels", [0, 1], [0, 1], {"labels": [1, 1]}),
        (ValueError, "select columns of a table instead", [[0, 1]], [[0, 1]], {"labels": [1]}),
    ],
)
def test_errors(error, message, truth, guess, options):
    for score in (precision, recall, f_score):
        with pytest.raises(error, match=message):
            score(truth, guess, **{"average": "macro", **options})
    if not options:
        with pytest.raises(error, match=message):
            accuracy(truth, guess)


def test_more_errors():
    with pytest.raises(ValueError, match="beta must be a finite number above zero, got 0"):
        f_score([0], [0], average="macro", beta=0)
    with pytest.raises(ValueError, match="labels lacks 'elk', which occurs"):
        confusion_matrix(TRUTH, GUESS, labels=["cat", "dog"])
    with pytest.raises(ValueError, match="a confusion matrix needs one label per example"):
        confusion_matrix([[0, 1]], [[0, 1]])
