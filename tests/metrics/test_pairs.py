import pytest

from lmcore.metrics.bleu import bleu_counts, corpus_bleu, sentence_bleu
from lmcore.metrics.chrf import chrf_counts, corpus_chrf, sentence_chrf
from lmcore.metrics.pairs import checked_pairs
from lmcore.metrics.rouge import rouge_l, rouge_lsum, rouge_n

CORPUS = (bleu_counts, corpus_bleu, chrf_counts, corpus_chrf, checked_pairs)
SENTENCE = (sentence_bleu, sentence_chrf, rouge_l, rouge_lsum, lambda h, r: rouge_n(h, r, 2))


def test_one_reference_or_several():
    assert checked_pairs(("a", "b"), ["c", ("d", "e")]) == (["a", "b"], [["c"], ["d", "e"]])
    assert checked_pairs(iter(["a"]), iter([""])) == (["a"], [[""]])  # an empty line is a line


@pytest.mark.parametrize("function", CORPUS)
@pytest.mark.parametrize(
    ("error", "message", "hypotheses", "references"),
    [
        (TypeError, "hypotheses must be a list of strings, got one string: 'a cat'", "a cat", ["a cat"]),
        (TypeError, "references must be a list of strings, got one string: 'a cat'", ["a cat"], "a cat"),
        (TypeError, r"hypotheses\[1\] must be a string, got NoneType", ["a", None], ["a", "b"]),
        (TypeError, r"references\[1\]\[0\] must be a string, got int 3", ["a", "b"], ["a", [3]]),
        (ValueError, "hypotheses is empty", [], []),
        (ValueError, r"references\[1\] is empty: a hypothesis without a reference", ["a", "b"], ["a", []]),
        (ValueError, "there are 2 hypotheses and references for 1; references.i. belongs", ["a", "b"], ["a"]),
        (ValueError, r"pass list\(zip\(\*references\)\)", ["a", "b", "c"], [["a", "b", "c"], ["d", "e", "f"]]),
    ],
)
def test_errors(function, error, message, hypotheses, references):
    with pytest.raises(error, match=message):
        function(hypotheses, references)


@pytest.mark.parametrize("function", SENTENCE)
def test_errors_of_one_sentence(function):
    with pytest.raises(TypeError, match="hypothesis must be a string, got list"):
        function(["a cat"], "a cat")
    with pytest.raises(ValueError, match="references is empty"):
        function("a cat", [])
    with pytest.raises(TypeError, match=r"references\[0\] must be a string, got list"):
        function("a cat", [["a cat"]])


def test_the_hint_is_only_given_where_it_helps():
    for references in ([["a"]], [["a", "b", "c"], "d"]):
        with pytest.raises(ValueError, match=r"belongs to hypotheses\[i\]$"):
            checked_pairs(["a", "b", "c"], references)
