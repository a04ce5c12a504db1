"""Words in a language that writes none: maximum matching with a dictionary, and a hidden Markov model with Viterbi.

Maximum matching takes the longest known word, again and again; it knows only its dictionary. The hidden Markov model
gives every character one of four tags: begin (b), middle (m) or end (e) of a word, or a word of its own (s, single). It
finds the most probable tags of a whole line; it has no dictionary, and can find words that nobody has listed.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

TAGS = "bmes"
_ALLOWED = {"b": "me", "m": "me", "e": "bs", "s": "bs"}  # which tag may follow which
_BEFORE = {tag: "".join(other for other in TAGS if tag in _ALLOWED[other]) for tag in TAGS}


class MaximumMatching:
    """Cut off the longest word of a dictionary, from the left or from the right; unknown characters stand alone.

    Args:
        words: the dictionary.
        backward: begin at the right end. In Chinese this is usually a little better: the head of a phrase comes last.
    Raises:
        TypeError: words is one string.   ValueError: no word.
    Cost: at most (longest word) look-ups for each word found.

    >>> MaximumMatching(["研究", "研究生", "生命", "起源"]).split("研究生命起源")
    ['研究生', '命', '起源']
    >>> MaximumMatching(["研究", "研究生", "生命", "起源"], backward=True).split("研究生命起源")
    ['研究', '生命', '起源']
    """

    def __init__(self, words: Iterable[str], *, backward: bool = False):
        if isinstance(words, str):
            raise TypeError("words is one string; pass a list of words")
        self.words = frozenset(word for word in words if word)
        if not self.words:
            raise ValueError("words is empty: there is nothing to match")
        self.backward = backward
        self._longest = max(map(len, self.words))

    def split(self, text: str) -> list[str]:
        """Cut a text into words; together they are the text."""
        found, left, right = [], 0, len(text)
        while left < right:
            for size in range(min(self._longest, right - left), 0, -1):
                word = text[right - size : right] if self.backward else text[left : left + size]
                if size == 1 or word in self.words:
                    break
            found.append(word)
            left, right = (left, right - size) if self.backward else (left + size, right)
        return found[::-1] if self.backward else found


def tags_of(words: Iterable[str]) -> str:
    """Write words as the tags of their characters.

    >>> tags_of(["研究生", "的", "生命"])
    'bmesbe'
    """
    return "".join("s" if len(word) == 1 else "b" + "m" * (len(word) - 2) + "e" for word in words if word)


class HiddenMarkovSegmenter:
    """Most probable tags under p(tags, text) = Π p(tag | tag before) · p(character | tag).

    Args:
        alpha: pretended count of every character, seen or not, under every tag, > 0.
    Attributes:
        start_, transition_, emission_: natural log-probabilities, by tag (and tag, and character).
    Source: Rabiner 1989; four tags for Chinese words: Xue 2003.

    >>> hmm = HiddenMarkovSegmenter().fit([["研究", "生命"], ["生命", "的", "起源"]])
    >>> hmm.split("研究生命的起源")
    ['研究', '生命', '的', '起源']
    """

    def __init__(self, *, alpha: float = 0.1):
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be a finite number above zero, got {alpha}")
        self.alpha = alpha

    def fit(self, sentences: Iterable[Sequence[str]]) -> "HiddenMarkovSegmenter":
        """Count tags and characters.

        Args:
            sentences: sequences of words.
        Raises:
            TypeError: a sentence is a string.   ValueError: no word at all.
        """
        start, following, emitted = Counter(), Counter(), Counter()
        for sentence in sentences:
            if isinstance(sentence, str):
                raise TypeError(f"a sentence is a sequence of words, got the string {sentence[:40]!r}")
            tags = tags_of(sentence)
            start.update(tags[:1])
            following.update(zip(tags, tags[1:], strict=False))
            emitted.update(zip(tags, "".join(sentence), strict=True))
        if not start:
            raise ValueError("sentences holds no word: there is nothing to count")
        characters = {character for _, character in emitted}
        self.start_ = {tag: math.log((start[tag] + self.alpha) / (start.total() + 2 * self.alpha)) for tag in "bs"}
        self.transition_ = {}
        for tag, allowed in _ALLOWED.items():
            total = sum(following[tag, other] for other in allowed) + self.alpha * len(allowed)
            self.transition_ |= {
                (tag, other): math.log((following[tag, other] + self.alpha) / total) for other in allowed
            }
        self._unseen, self.emission_ = {}, {}
        for tag in TAGS:
            total = sum(count for (other, _), count in emitted.items() if other == tag)
            total += self.alpha * (len(characters) + 1)  # one more for all that were never seen
            self._unseen[tag] = math.log(self.alpha / total)
            counts = {character: emitted[tag, character] for character in characters}
            self.emission_[tag] = {c: math.log((n + self.alpha) / total) for c, n in counts.items()}
        return self

    def tag(self, text: str) -> str:
        """Most probable tags of a text's characters, by Viterbi's algorithm.

        Raises:
            ValueError: not fitted.
        Cost: O(length): at each character, for each tag, the two that may stand before it.
        """
        if not hasattr(self, "emission_"):
            raise ValueError("this HiddenMarkovSegmenter has counted nothing yet: call fit(sentences) first")
        if not text:
            return ""
        score = {tag: self.start_.get(tag, -math.inf) + self._emission(tag, text[0]) for tag in TAGS}
        back = []
        for character in text[1:]:
            best = {tag: max(_BEFORE[tag], key=lambda o, t=tag: score[o] + self.transition_[o, t]) for tag in TAGS}
            score = {
                tag: score[best[tag]] + self.transition_[best[tag], tag] + self._emission(tag, character)
                for tag in TAGS
            }
            back.append(best)
        tags = [max("es", key=score.get)]  # a text ends with a word's end
        for best in reversed(back):
            tags.append(best[tags[-1]])
        return "".join(reversed(tags))

    def _emission(self, tag: str, character: str) -> float:
        """Log-probability of a character under a tag."""
        return self.emission_[tag].get(character, self._unseen[tag])

    def split(self, text: str) -> list[str]:
        """Cut a text into words; together they are the text."""
        words, start = [], 0
        for place, tag in enumerate(self.tag(text), start=1):
            if tag in "es":
                words.append(text[start:place])
                start = place
        return words


def word_scores(truth: Iterable[Sequence[str]], found: Iterable[Sequence[str]]) -> tuple[float, float, float]:
    """Precision, recall and F1 of words, where a word counts as found if both of its ends are right.

    Args:
        truth, found: the same sentences as sequences of words.
    Returns:
        Three numbers in [0, 1]; F1 is 0 if no word is right.
    Raises:
        ValueError: sentences of different text, or different numbers of them.

    >>> word_scores([["研究", "生命"]], [["研究", "生", "命"]])   # 1 of 3 found is right, 1 of 2 is found
    (0.3333333333333333, 0.5, 0.4)
    """
    right = n_true = n_found = 0
    for number, (one, other) in enumerate(zip(truth, found, strict=True)):
        if "".join(one) != "".join(other):
            raise ValueError(f"sentence {number} has the text {''.join(one)[:40]!r} and {''.join(other)[:40]!r}")
        spans = _spans(one), _spans(other)
        right += len(spans[0] & spans[1])
        n_true, n_found = n_true + len(spans[0]), n_found + len(spans[1])
    precision, recall = right / n_found if n_found else 0.0, right / n_true if n_true else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if right else 0.0


def _spans(words: Sequence[str]) -> set[tuple[int, int]]:
    """Where each word begins and ends."""
    ends = [0]
    for word in words:
        ends.append(ends[-1] + len(word))
    return set(zip(ends, ends[1:], strict=False))
