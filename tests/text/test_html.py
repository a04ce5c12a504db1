"""HTML to text: pages by hand, escaping as the inverse, and whatever the web may send."""

import html
import sys

import bs4
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore import optional
from lmcore.text.html import DROPPED, html_to_text

PAGE = """<!DOCTYPE html>
<html><head><title>Tea</title><style>p { color: red }</style><script>var a = "<p>no</p>";</script></head>
<body><nav><ul><li>Home<li>Shop</ul></nav>
<main><h1>How to   make
tea</h1><p>Boil <b>fresh</b> water; 1&nbsp;l &mdash; no more.<br>Wait.</p><!-- really -->
<ul><li>green</li><li>black</li></ul>
<table><tr><th>kind<th>minutes<tr><td>green<td>3</table>
<pre>
for cup in cups:
    pour(cup)
</pre></main>
<footer>© 2024</footer></body></html>"""


class TestByHand:
    def test_a_page(self):
        assert html_to_text(PAGE) == (
            "How to make tea\n\nBoil fresh water; 1 l — no more.\nWait.\n\ngreen\nblack\n\nkind minutes\ngreen 3\n\n"
            "for cup in cups:\n    pour(cup)"
        )

    @pytest.mark.parametrize(
        ("page", "expected"),
        [
            ("", ""),
            ("plain & simple", "plain & simple"),
            ("a<b>b</b> <i> c</i>", "ab c"),  # elements inside a line add no space
            ("<div>a</div><div>b</div>", "a\nb"),
            ("<p>a<p>b", "a\n\nb"),
            ("a<br>b<br><br><br>c", "a\nb\n\nc"),  # however many: one blank line
            ("<p>a</p>\n<br>\n<p>b</p>", "a\n\nb"),
            ("<p>中文<b>分词</b>。</p>", "中文分词。"),  # and no space between Chinese characters
            ("&lt;p&gt; &#20013; &#x6587; &eacute; & so", "<p> 中 文 é & so"),
            ("hy&shy;phen", "hyphen"),
            ("<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby>字", "漢字"),
            ("<div role='navigation'>menu</div>text<p hidden>secret", "text"),
            ("<svg><title>t</title><text>x</text></svg>text", "text"),
            ("<form><p>all in a form</form>", "all in a form"),
        ],
    )
    def test_pieces(self, page, expected):
        assert html_to_text(page) == expected

    @pytest.mark.parametrize(
        ("page", "expected"),
        [
            ("<pre>\n  a\n\n\n   b\n</pre>c", "  a\n\n\n   b\n\nc"),
            ("<pre>a<br>b<div>c</div></pre>", "a\nb\nc"),
            ("x<pre>  </pre>y", "x\n\ny"),
            ("<pre>a <pre>b</pre> c</pre>  d", "a b c\n\nd"),
            ("<pre>a &lt; <b>b</b>  c", "a < b  c"),
        ],
    )
    def test_preformatted(self, page, expected):
        assert html_to_text(page) == expected

    @pytest.mark.parametrize(
        ("page", "expected"),
        [
            ("<p>one <b>two <p>three</b></i></p></div> four", "one two\n\nthree\n\nfour"),
            ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
            ("<head><title>T</title><body><p>no end of head", "no end of head"),
            ("text<script>if (a < b) never()", "text"),
            ("<![CDATA[data]]>text<!-- open", "text"),
            ("<?xml version='1.0'?><a>x</a>", "x"),
            ("http://example.org/page", "http://example.org/page"),  # without a warning
        ],
    )
    def test_broken(self, page, expected, recwarn):
        assert html_to_text(page).split("<!--")[0] == expected
        assert not recwarn.list

    def test_deep_nesting_needs_no_recursion(self):
        depth = 10 * sys.getrecursionlimit()
        assert html_to_text("<b>" * depth + "deep") == "deep"
        assert html_to_text("<p>x" * depth).count("x") == depth

    def test_what_is_dropped_can_be_chosen(self):
        page = "<nav>menu</nav><p>text</p><aside>more</aside>"
        assert html_to_text(page) == "text"
        assert html_to_text(page, drop=DROPPED - {"nav"}) == "menu\n\ntext"
        assert html_to_text(page, drop=()) == "menu\n\ntext\n\nmore"

    def test_bytes(self):
        page = "<p>café 中</p>"
        assert html_to_text(page.encode(), encoding="utf-8") == "café 中"
        assert html_to_text(page.encode("gbk", "ignore"), encoding="gbk").endswith("中")


class TestAnything:
    @given(st.text(max_size=60))
    def test_escaping_is_undone(self, text):
        """All but the folding of white space; a parser replaces NUL and lone surrogates, as the standard asks."""
        text = "".join(c for c in text if c.isprintable() or c in " \n\t").replace("\xad", "")
        assert html_to_text(html.escape(text)) == " ".join(text.split())

    @given(st.text("<>/!-[]'\"= apbr&;#\n", max_size=60))
    def test_no_page_is_too_broken(self, page):
        try:
            found = html_to_text(page)
        except ValueError as error:
            assert "page cannot be parsed as HTML" in str(error)  # noqa: PT017
        else:
            assert found == found.strip("\n")

    @given(
        st.recursive(
            st.sampled_from(["a", "b c", " d ", "中"]), lambda parts: st.lists(parts, max_size=4), max_leaves=9
        )
    )
    def test_the_words_are_those_of_the_parser(self, tree):
        """Oracle: bs4's own get_text, in which block elements glue the words around them."""

        def write(part):
            return part if isinstance(part, str) else "<div>" + "".join(map(write, part)) + "</div>"

        page = write(tree)
        theirs = bs4.BeautifulSoup(page.replace("<", "\n<"), "html.parser").get_text()
        ours = html_to_text(page)
        assert "".join(ours.split()) == "".join(theirs.split())
        assert "\n\n" not in ours


class TestErrors:
    def test_bytes_without_encoding(self):
        with pytest.raises(TypeError, match="page is bytes: pass their encoding"):
            html_to_text(b"<p>x</p>")
        with pytest.raises(ValueError, match="utf-8"):
            html_to_text(b"\xff", encoding="utf-8")

    def test_types(self):
        with pytest.raises(TypeError, match="page must be str, or bytes with an encoding, got NoneType"):
            html_to_text(None)
        with pytest.raises(TypeError, match="drop is one string, 'nav'"):
            html_to_text("x", drop="nav")

    def test_rejected_by_the_parser(self, monkeypatch):
        def reject(*_):
            raise bs4.exceptions.ParserRejectedMarkup("unknown declaration")

        monkeypatch.setattr(bs4, "BeautifulSoup", reject)
        with pytest.raises(ValueError, match="page cannot be parsed as HTML: unknown declaration"):
            html_to_text("<![x")

    def test_the_package_is_missing(self, monkeypatch):
        def missing(name):
            raise ModuleNotFoundError(name=name)

        monkeypatch.setattr(optional.importlib, "import_module", missing)
        with pytest.raises(ModuleNotFoundError, match=r"html_to_text needs bs4.*lmcore\[text\]"):
            html_to_text("x")
