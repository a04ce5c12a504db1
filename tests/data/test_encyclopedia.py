"""Wiki markup by hand, and the articles that come out of the real dump."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore import data
from lmcore.data.encyclopedia import article, clean


@pytest.fixture(scope="module")
def encyclopedia():
    return data.load("encyclopedia")


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("'''bold''' and ''italic'' and '''''both'''''", "bold and italic and both"),
        ("the [[dog]]s of [[Paris, Texas|Paris]]", "the dogs of Paris"),
        ("before [[File:A.jpg|thumb|a [[caption]] with {{lang|fr|mots}}]] after", "before after"),
        ("end\n[[Category:Dogs]]\n[[fr:Chien]] [[:Category:Cats|cats]]", "end\ncats"),
        ("a<ref>note {{cite|x=1}}</ref>b<ref name=z />c<ref\nname=y>long\nnote</ref>d", "abcd"),
        ("a<!-- not\nthis -->b", "ab"),
        ("x{{unknown|a={{nested|b}}}}y", "xy"),
        ("{{convert|5|km|mi}} or {{convert|5|to|8|km}} {{as of|2014}}", "5 km or 5 to 8 km As of 2014"),
        ("{{lang|fr|chien}} {{lang-de|Hund}} {{nihongo|Aikido|合気道|aikidō}}", "chien Hund Aikido"),
        ("{{quote|said [[Proudhon|he]] {{sfn|x}}}}", "said he"),
        ("kept\n{| class=x\n| cell\n{|\n| inner\n|}\n|}\nhere", "kept\nhere"),
        ("see [http://a.b/c the page] and [http://a.b] or http://a.b/d.", "see the page and or"),
        ("the H<sub>2</sub>O<br />next <small>text</small>", "the H2O\nnext text"),
        ("where <math>x^{2_{3}}</math> is", "where is"),
        ("fish&nbsp;&amp; chips &ndash; “good”", 'fish & chips – "good"'),
        ("* one\n** two\n#: three\n; four", "one\ntwo\nthree\nfour"),
        ("Paris ({{IPA|x}}; ) is ( {{IPA|y}}, big) here ()", "Paris is (big) here"),
        ("broken [[link and {{template\nnext", "broken link and template\nnext"),
        ("== Heading ==\ntext", "== Heading ==\ntext"),
        ("__TOC__\n----\n...", ""),
    ],
)
def test_clean_by_hand(markup, text):
    assert clean(markup) == text


def test_article_without_the_sections_of_sources():
    markup = "Lead.\n==One==\nText.\n===Two===\n==See also==\n* [[x]]\n===Deeper===\nlost\n== Three ==\nMore."
    markup += "\n==References==\nlost"
    assert article("T", markup) == data.Article(
        "T", (data.Section("", "Lead."), data.Section("One", "Text."), data.Section("Three", "More."))
    )
    assert article("T", markup).text == "Lead.\nText.\nMore."


@given(st.lists(st.text("abcdefgXYZ", min_size=2), min_size=1))
def test_plain_words_pass_through(words):
    assert clean(" ".join(words)) == " ".join(words)


@given(st.text("ab {}[]|'=<>/*#:;.,\n&"))
def test_cleaning_ends_and_leaves_no_markup(markup):
    assert not re.search(r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|''|^[*#:;]", clean(markup), re.MULTILINE)


def test_articles(encyclopedia):
    assert len(encyclopedia) == 106
    assert repr(encyclopedia) == "<Corpus encyclopedia: 106 × Article, 438,895 words>"
    assert "438,895 words" in encyclopedia.card.size
    titles = [one.title for one in encyclopedia]
    assert titles[:3] == ["Anarchism", "Autism", "Albedo"]
    assert titles[-1] == "Algorithm"
    assert len(set(titles)) == 106
    assert encyclopedia[0].sections[0].title == ""
    assert [section.title for section in encyclopedia[0].sections][1:3] == ["Etymology and terminology", "Origins"]
    assert encyclopedia[0].text.startswith(
        "Anarchism is a political philosophy that advocates self-governed societies based on voluntary institutions. "
    )


def test_no_markup_is_left(encyclopedia):
    text = "\n".join(encyclopedia.texts())
    assert not re.search(r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|''|==|<[a-zA-Z/!]|&[a-z#0-9]+;|https?:|__[A-Z]", text)
    assert not re.search(r"^[*#:;|!]|^$|^ | $|  |\( | \)|\(\)", text, re.MULTILINE)
    assert not re.search(r"\b(colspan|rowspan|cellpadding|wikitable)\b|style=|\d+px\b", text)
    assert not re.search("[“”‘’\u00a0]", text)


def test_every_section_has_text_and_none_lists_sources(encyclopedia):
    sections = [section for one in encyclopedia for section in one.sections]
    assert all(section.text for section in sections)
    assert not {"References", "External links", "See also", "Notes"} & {section.title for section in sections}
    again = [clean(section.text) for section in sections]
    assert again == [section.text for section in sections]
