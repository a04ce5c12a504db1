"""Articles of a MediaWiki dump as plain paragraphs: the markup is taken away from the inside out.

Unlike a full parser, it knows only what stands in running prose; every template that is not listed here is dropped.
"""

import bz2
import re
from collections.abc import Callable
from html import unescape
from typing import BinaryIO
from xml.etree import ElementTree

from .cards import Card
from .corpus import Article, Corpus, Section

# Templates that leave words in the sentence: those that show their first or last argument, and those that are a sign.
_FIRST = {"nihongo", "quote", "tooltip", "angbr", "formatnum", "vanchor", "linktext", "keypress", "native name"}
_LAST = {"lang", "transl", "nowrap", "nobold", "small", "smaller", "big", "sc", "sup", "sub", "script", "nastaliq"}
_SIGNS = {
    "nbsp": " ",
    "spaces": " ",
    "thinsp": " ",
    "snd": " – ",
    "ndash": "–",
    "mdash": "—",
    "mdashb": "—",
    "'s": "'s",
}

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_NOT_WORDS = r"(ref|math|gallery|source|timeline|imagemap|score)"
_ELEMENT = re.compile(rf"<{_NOT_WORDS}\b(?:[^<>]*?/>|[^<>]*>.*?</\1\s*>)", re.DOTALL | re.IGNORECASE)
_INNERMOST = r"((?:[^{}\[\]]|\{(?!\{)|\}(?!\})|\[(?!\[)|\](?!\]))*)"
_TEMPLATE_OR_LINK = re.compile(rf"\{{\{{{_INNERMOST}\}}\}}|\[\[{_INNERMOST}\]\]")
_TABLE = re.compile(r"^[ :*]*\{\|(?:(?!^[ :*]*\{\|).)*?^\s*\|\}", re.DOTALL | re.MULTILINE)
_WEB_LINK = re.compile(r"\[(?:https?:|ftp:|mailto:)?//[^\s\]]*\s*([^\]]*)\]|https?://\S+")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|__[A-Z]+__")
_REMAINS = re.compile(r"'{2,}|\{\{|\}\}|\[\[|\]\]|\{\||\|\}|\[\d*\]")
_HEADING = re.compile(r"^(={2,6})\s*(.*?)\s*\1$", re.MULTILINE)
_NOT_PROSE = re.compile(
    r"(notes and )?references|.*further reading|external links|see also|.*bibliography|notes|footnotes|citations"
    r"|sources|works cited|(selected|list of) works|publications|books|reference literature|.*filmography.*|.*gallery",
    re.IGNORECASE,
)


def _template(content: str) -> str:
    """What a template leaves in the sentence."""
    name, *arguments = (part.strip() for part in content.split("|"))
    name = name.lower()
    words = [part for part in arguments if not re.match(r"[\w -]+=", part)]
    if name in _SIGNS:
        return _SIGNS[name]
    if not words:
        return ""
    if name == "convert":  # 5|km|mi, or 5|to|8|km|mi
        return " ".join(words[: 4 if words[1:2] and words[1] in ("to", "by", "and", "-", "–", "x") else 2])
    if name == "as of":
        return f"As of {words[0]}"
    if name in _FIRST or name.startswith("lang-"):
        return words[0]
    return words[-1] if name in _LAST else ""


def _link(content: str) -> str:
    """What a link leaves in the sentence: its label, or else its target."""
    target, _, label = content.partition("|")
    if re.match(r"\s*(file|image|category|media)\s*:", target, re.IGNORECASE):
        return ""
    if not label and re.match(r":?[\w-]+:\S", target):  # to another project or language
        return ""
    return label.rpartition("|")[2] or target.lstrip(":")


def _inside_out(pattern: re.Pattern[str], replace: str | Callable[[re.Match[str]], str], text: str) -> str:
    """Substitute until nothing matches; the pattern matches only what holds no further match."""
    count = 1
    while count:
        text, count = pattern.subn(replace, text)
    return text


def _line(text: str) -> str:
    """One line without list marks, emptied brackets and double spaces, or nothing if it holds no word."""
    text = re.sub(r"\([\s,;:]+", "(", text.lstrip("*#:; "))
    text = re.sub(r"[\s,;:]+\)", ")", text).replace("()", "")
    text = re.sub(r"\s+([,.;:?!)](?!\w))", r"\1", " ".join(text.split()))
    return text if re.search(r"[^\W\d_]{2}", text) else ""


def clean(text: str) -> str:
    """Wiki markup as plain text, one paragraph or list item per line; headings stay as `==heading==`.

    >>> clean("'''Anarchism''' is a [[politics|political]] philosophy<ref>Woodcock</ref>{{sfn|Ward}} of no [[ruler]]s.")
    'Anarchism is a political philosophy of no rulers.'
    """
    text = _COMMENT.sub("", text)
    text = _ELEMENT.sub("", text)
    text = _inside_out(_TEMPLATE_OR_LINK, lambda m: _template(m[1]) if m[2] is None else _link(m[2]), text)
    text = _inside_out(_TABLE, "", text)
    text = _WEB_LINK.sub(lambda m: m[1] or "", text)
    text = re.sub(r"<br\s*/?>|</?(?:li|div|p)\b[^<>]*>", "\n", text, flags=re.IGNORECASE)
    text = unescape(_TAG.sub("", text)).translate(str.maketrans("“”‘’", "\"\"''"))
    text = _inside_out(_REMAINS, "", text)
    return "\n".join(filter(None, map(_line, text.splitlines())))


def article(title: str, markup: str) -> Article:
    """An article from its markup, without the sections that list sources, works and links."""
    parts = _HEADING.split(clean(markup))  # lead, then level, heading, text, level, heading, text, …
    sections, skipped = [], ""
    for level, heading, text in zip(["==", *parts[1::3]], ["", *parts[2::3]], parts[0::3], strict=True):
        if skipped and len(level) > len(skipped):
            continue  # a subsection of a section that was left out
        skipped = level if _NOT_PROSE.fullmatch(heading) else ""
        if text.strip() and not skipped:
            sections.append(Section(heading, text.strip()))
    return Article(title, tuple(sections))


def read(card: Card, file: BinaryIO) -> Corpus:
    """The corpus in an open, compressed dump; redirects and pages that are not articles are left out."""
    articles = []
    with bz2.open(file) as dump:
        for _, element in ElementTree.iterparse(dump):
            if not element.tag.endswith("}page"):
                continue
            space = element.tag.removesuffix("page")
            if element.findtext(f"{space}ns") == "0" and element.find(f"{space}redirect") is None:
                markup = element.findtext(f"{space}revision/{space}text")
                articles.append(article(element.findtext(f"{space}title"), markup))
            element.clear()
    return Corpus(card, articles)
