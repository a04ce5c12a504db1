"""The readable text of an HTML page: menus, scripts and styles left out, blocks on lines of their own.

The parsing is beautifulsoup4's, on Python's own parser, which takes any page, however broken. What is decided here is
which elements are no text, where lines end, and what becomes of white space.
"""

import warnings
from collections.abc import Collection, Iterator
from typing import Any

from lmcore.optional import need

# No text, or text that is the same on every page of a site. <form> is not among them: some sites put all in one.
DROPPED = frozenset(
    "script style template noscript title nav footer aside menu button select textarea "
    "iframe object svg math canvas audio video".split()
)
_DROPPED_ROLES = frozenset("navigation search banner contentinfo complementary".split())
_PARAGRAPHS = frozenset(  # separated from what stands around them by a blank line
    "p h1 h2 h3 h4 h5 h6 blockquote pre ul ol dl table figure article section main header hr body".split()
)
_LINES = frozenset("div li tr dt dd figcaption caption address form fieldset legend summary details html".split())
_CELLS = frozenset(["td", "th"])


class _Writer:
    """Collects lines: white space folded, except in preformatted text."""

    def __init__(self) -> None:
        self.line: list[str] = []  # pieces of the line that is being written
        self.parts: list[str] = []  # finished lines and the breaks between them
        self.gap = 0  # line breaks due before the next line
        self.preformatted = 0  # how many <pre> are open

    def end_line(self, gap: int) -> None:
        """Finish the line; at least `gap` line breaks will follow it."""
        line = "".join(self.line)
        self.line.clear()
        line = line.strip("\n") if self.preformatted else " ".join(line.replace("\xad", "").split())
        if line.strip():
            if self.parts:
                self.parts.append("\n" * self.gap)
            self.parts.append(line)
            self.gap = 0
        self.gap = max(self.gap, gap)

    def open_or_close(self, name: str, *, closing: bool) -> None:
        """Do what an element's start or end asks for."""
        if name == "pre":
            if not self.preformatted or (closing and self.preformatted == 1):
                self.end_line(2)
            self.preformatted += -1 if closing else 1
        elif self.preformatted:
            if (name in _PARAGRAPHS or name in _LINES or name == "br") and not (closing and name == "br"):
                self.line.append("\n")
        elif name == "br" and not closing:
            self.end_line(min(self.gap + 1, 2) if not "".join(self.line).strip() else 1)
        elif name in _PARAGRAPHS:
            self.end_line(2)
        elif name in _LINES:
            self.end_line(1)
        elif name in _CELLS:
            self.line.append(" ")


def _walk(root: Any, drop: Collection[str]) -> Iterator[tuple[Any, bool]]:
    """Each node when it begins, and each element again when it ends (True). No recursion: pages nest deeply."""
    stack = [(root, False)]
    while stack:
        node, closing = stack.pop()
        name = getattr(node, "name", None)
        if name in drop or (name and (node.get("role") in _DROPPED_ROLES or node.has_attr("hidden"))):
            continue
        yield node, closing
        if name and not closing:
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.contents))


def html_to_text(page: str | bytes, *, encoding: str | None = None, drop: Collection[str] = DROPPED) -> str:
    r"""Write an HTML page as plain text.

    Entities are resolved, every run of white space is one space (no-break spaces too), soft hyphens vanish. Paragraphs
    and headings are separated by a blank line, list items and table rows by a line break, the cells of a row by a
    space. Text in <pre> keeps its spaces and line breaks. Comments, and the reading aids of ruby text, are left out.

    Args:
        page: a page or a piece of one, well-formed or not.
        encoding: of a page that is given as bytes.
        drop: names of the elements to leave out with all that is in them; elements with the attribute ``hidden`` or
            with the role of navigation, search, banner and the like go too.
    Returns:
        The text, without empty lines at its ends.
    Raises:
        TypeError: page is neither str nor bytes, or is bytes and encoding is missing; drop is a string.
        ValueError: bytes that are not of that encoding, or a declaration that the parser cannot read.
        ModuleNotFoundError: beautifulsoup4 is not installed.
    Cost: about 1 MB of HTML per second.

    >>> html_to_text("<h1>Tea &amp; cake</h1><p>Pour<br>and <b>wait</b>.<p>Eat.<script>track()</script>")
    'Tea & cake\n\nPour\nand wait.\n\nEat.'
    """
    need("bs4", group="text", by="html_to_text")
    import bs4

    if isinstance(drop, str):
        raise TypeError(f"drop is one string, {drop!r}; pass a collection of element names")
    if isinstance(page, bytes):
        if encoding is None:
            raise TypeError("page is bytes: pass their encoding, as in html_to_text(page, encoding='utf-8')")
        page = page.decode(encoding)
    if not isinstance(page, str):
        raise TypeError(f"page must be str, or bytes with an encoding, got {type(page).__name__}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bs4.UnusualUsageWarning)  # "this looks like a file name": it may
        try:
            soup = bs4.BeautifulSoup(page, "html.parser")
        except bs4.exceptions.ParserRejectedMarkup as error:
            raise ValueError(f"page cannot be parsed as HTML: {error}") from error
    writer = _Writer()
    for node, closing in _walk(soup, drop):
        if node.name:
            writer.open_or_close(node.name, closing=closing)
        elif type(node) is bs4.NavigableString:  # its subclasses are comments, declarations, scripts, …
            writer.line.append(node)
    writer.end_line(0)
    return "".join(writer.parts)
