"""Document filters: statistics by hand, limits one by one, and Chinese that is not thrown away."""

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore import data
from lmcore.text.filters import (
    DocumentFilter,
    Rejection,
    kind_share,
    measure,
    ngrams,
    repeated_share,
    script_shares,
    split_units,
)

PROSE = "The water boils in the kettle, and the cook pours it over the leaves with some care."
ANYTHING = DocumentFilter(
    min_words=0, min_letters=0, max_symbols=1, max_repeated_lines=1, max_repeated_ngrams=1,
    min_mean_word_length=0, max_mean_word_length=1e9,
)  # fmt: skip


class TestStatistics:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", []),
            ("It's 3 well-known cups!", ["It's", "3", "well-known", "cups"]),
            ("用GPT-2写作", ["用", "GPT-2", "写", "作"]),
            ("ひらカタ漢", list("ひらカタ漢")),
            ("한국어 책", ["한국어", "책"]),
            ("हिन्दी है", ["हिन्दी", "है"]),  # vowel signs are marks, not letters, and belong to the word
            ("cafe\u0301 au", ["cafe\u0301", "au"]),
            ("a_b --- c'", ["a", "b", "c"]),
        ],
    )
    def test_units(self, text, expected):
        assert split_units(text) == expected

    def test_kinds(self):
        text = "ab é中 12 ,. #+"  # 4 letters, 2 numbers, 2 points, 2 symbols
        assert [kind_share(text, kind) for kind in "LNPS"] == pytest.approx([0.4, 0.2, 0.2, 0.2])
        assert kind_share("हिन्दी", "L") == 1
        assert kind_share(" \n", "L") == kind_share("", "S") == 0

    def test_scripts(self):
        shares = script_shares("ab жу 中 あ １ａ 3!")
        assert shares == pytest.approx({"LATIN": 3 / 7, "CYRILLIC": 2 / 7, "CJK": 1 / 7, "HIRAGANA": 1 / 7})
        assert next(iter(shares)) == "LATIN"  # the most frequent first
        assert script_shares("123") == {}

    def test_repetition(self):
        assert repeated_share([]) == 0
        assert repeated_share(["a", "b", "a", "a"]) == 0.5
        assert ngrams("abcd", 3) == [("a", "b", "c"), ("b", "c", "d")]
        assert ngrams("ab", 3) == []
        with pytest.raises(ValueError, match="n must be at least 1, got 0"):
            ngrams("ab", 0)

    def test_all_of_them(self):
        found = measure("one two\n\none two \nthree 4", n=2)
        assert found.characters == 25
        assert found.words == 6
        assert found.mean_word_length == pytest.approx(17 / 5)  # 4 holds no letter
        assert found.letters == pytest.approx(17 / 18)
        assert found.symbols == 0
        assert found.repeated_lines == pytest.approx(1 / 3)
        assert found.repeated_ngrams == pytest.approx(1 / 5)  # one two, two one, one two, two three, three 4
        assert found.scripts == {"LATIN": 1.0}
        assert measure("中文").mean_word_length is None

    @given(st.text(string.ascii_letters + string.digits + " \n.,;", max_size=60))
    def test_oracle_for_ascii(self, text):
        found = measure(text)
        words = re.findall("[A-Za-z0-9]+", text)
        assert found.words == len(words)
        visible = re.sub(r"\s", "", text)
        assert found.letters * max(len(visible), 1) == pytest.approx(sum(c.isalpha() for c in visible))
        lines = Counter(line.strip() for line in text.split("\n") if line.strip())
        assert found.repeated_lines == pytest.approx(1 - len(lines) / max(lines.total(), 1) if lines else 0)

    @given(st.text(max_size=40))
    def test_shares_are_shares(self, text):
        found = measure(text)
        assert all(0 <= share <= 1 for share in (found.letters, found.symbols, found.repeated_ngrams))
        assert sum(found.scripts.values()) == pytest.approx(1 if found.scripts else 0)


class TestRules:
    @pytest.mark.parametrize(
        ("rules", "text", "rule"),
        [
            ({"min_words": 4}, "one two three", "min_words"),
            ({"max_words": 2}, "one two three", "max_words"),
            ({"max_words": 2}, "三个字", "max_words"),
            ({"min_mean_word_length": 4}, "one two three", "min_mean_word_length"),
            ({"max_mean_word_length": 3}, "one two three", "max_mean_word_length"),
            ({"min_letters": 0.6}, "abc 123", "min_letters"),
            ({"max_symbols": 0.1}, "abc | def", "max_symbols"),
            ({"max_repeated_lines": 0.3}, "a\nb\na", "max_repeated_lines"),
            ({"max_repeated_ngrams": 0.3, "n": 1}, "a b a", "max_repeated_ngrams"),
            ({"scripts": {"LATIN": 0.6}}, "ab жу", "scripts['LATIN']"),
        ],
    )
    def test_each_says_its_name(self, rules, text, rule):
        limits = DocumentFilter(**{name: getattr(ANYTHING, name) for name in vars(ANYTHING)} | rules)
        assert [rejection.rule for rejection in limits.rejections(text)] == [rule]
        assert not limits.keeps(text)
        assert ANYTHING.keeps(text)

    def test_value_and_limit_are_told(self):
        assert DocumentFilter().rejections("only four words here") == (Rejection("min_words", 4, 10),)

    def test_a_limit_that_is_just_reached_is_kept(self):
        assert DocumentFilter(min_words=17, max_words=17).keeps(PROSE)
        assert DocumentFilter(min_words=17 + 1).rejections(PROSE) == (Rejection("min_words", 17, 18),)

    def test_one_of_several_scripts_is_enough(self):
        rules = DocumentFilter(min_words=1, min_mean_word_length=0, scripts={"LATIN": 0.8, "CJK": 0.8})
        assert rules.keeps("latin words")
        assert rules.keeps("中文的句子")
        assert [r.rule for r in rules.rejections("слова")] == ["scripts['LATIN']", "scripts['CJK']"]

    def test_a_short_latin_word_in_chinese_says_nothing_about_its_words(self):
        assert DocumentFilter().keeps("我们用 AI 写很多很长的文章。")
        assert [r.rule for r in DocumentFilter().rejections("AI is it or is it to be as it is, 对")] == [
            "min_mean_word_length"
        ]

    @given(st.text(max_size=60))
    def test_any_text_gets_an_answer(self, text):
        rules = DocumentFilter()
        assert rules.keeps(text) == (not rules.rejections(text))
        assert ANYTHING.keeps(text)

    def test_the_empty_document_is_too_short(self):
        assert [r.rule for r in DocumentFilter().rejections("")] == ["min_words", "min_letters"]


class TestCorpora:
    def test_chinese_news_stays(self):
        """Of the longer lines nearly all; a rule that counts words by spaces would throw them all away."""
        lines = [line.text for line in data.load("peoples-daily")[::20] if len(line.text) > 60]
        kept = [line for line in lines if DocumentFilter().keeps(line)]
        assert len(lines) > 500
        assert len(kept) / len(lines) > 0.97
        assert all(len(line.split()) < 10 for line in lines)

    def test_english_prose_stays_and_tables_go(self):
        paragraphs = [p for article in data.load("encyclopedia")[:20] for p in article.text.split("\n") if len(p) > 300]
        assert sum(map(DocumentFilter().keeps, paragraphs)) / len(paragraphs) > 0.99
        table = "\n".join(f"| {i} | {i * i} | {i**3} |" for i in range(20))
        assert {r.rule for r in DocumentFilter().rejections(table)} == {"min_letters", "max_symbols"}


class TestErrors:
    @pytest.mark.parametrize(
        ("rules", "message"),
        [
            ({"min_letters": 1.5}, "min_letters must be a share between 0 and 1, got 1.5"),
            ({"max_symbols": -0.1}, "max_symbols must be a share between 0 and 1, got -0.1"),
            ({"max_repeated_lines": float("nan")}, "max_repeated_lines must be a share"),
            ({"scripts": {"CJK": 2}}, "CJK must be a share between 0 and 1, got 2"),
            ({"min_words": -1}, "min_words must be at least 0, got -1"),
            ({"n": 0}, "n must be at least 1, got 0"),
            ({"min_words": 5, "max_words": 4}, "min_words is 5, above max_words, 4"),
            ({"min_mean_word_length": 13}, "min_mean_word_length is 13, above max_mean_word_length, 12.0"),
        ],
    )
    def test_limits_that_cannot_be(self, rules, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            DocumentFilter(**rules)

    def test_types(self):
        with pytest.raises(TypeError, match="text must be str, got bytes"):
            measure(b"x")
        with pytest.raises(TypeError):
            DocumentFilter(5)
