"""What the book's website needs beyond Jupyter Book: one small Sphinx extension.

* a chapter's title gets its number, and below it a line with reading time, run time, memory and the notebook;
* a paragraph that begins with **Figure N.M.** becomes the caption of the image of the cell above it;
* `{chapters}` lists the written chapters by parts, from the table of contents and the notebooks;
* `{bibliography}` lists the works that the chapters cite, as `chapters/citations.py` writes them;
* links to the repository, Colab, Binder and a JupyterHub appear once the repository's address is set;
* MathJax is loaded only by pages that have formulas;
* every page describes itself to search engines, and `/` leads to the landing page.
"""

import json
import re
import zlib
from html import escape
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from lmcore.checking import load

citations = load(Path(__file__).resolve().parents[2] / "chapters" / "citations.py")
logger = logging.getLogger(__name__)

CHAPTER = re.compile(r"chapters/(?P<number>\d\d|[A-Z])_")
CAPTION = re.compile(r"Figure (?P<label>[0-9A-Z]+\.\d+)\.?$")
DESCRIPTION_LENGTH = 200  # characters; search engines cut what is longer


# --- Facts about a chapter -------------------------------------------------------------------------------------------


def chapter_number(docname: str) -> str | None:
    """The number that readers see, taken from the file's name; None for pages that are not chapters.

    >>> chapter_number("chapters/02_linear_algebra"), chapter_number("book/index")
    ('2', None)
    """
    match = CHAPTER.match(docname)
    return (match["number"].lstrip("0") or "0") if match else None


def read_chapter(path: Path) -> dict:
    """A chapter's title, its question (its first paragraph) and its `lmbook` metadata, from the notebook."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    first = next("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    title = re.search(r"^# (.+)$", first, re.MULTILINE)
    return {"title": title[1].strip() if title else path.stem, **notebook["metadata"].get("lmbook", {})}


def facts(chapter: dict) -> list[str]:
    """What a reader wants to know before reading: time to read, time and memory to run.

    >>> facts({"minutes": 45, "run": {"seconds": 31, "peak_megabytes": 480}})
    ['Reading time 45 min', 'executed in 31 s with at most 480 MB']
    """
    found = []
    if "minutes" in chapter:
        found.append(f"Reading time {chapter['minutes']} min")
    if "run" in chapter:
        run = chapter["run"]
        found.append(f"executed in {run['seconds']} s with at most {run['peak_megabytes']} MB")
    return found


# --- Chapters: number, facts, captions -------------------------------------------------------------------------------


class Chapters(SphinxTransform):
    """Number the title, put the chapter's facts below it, and join figures with their captions."""

    default_priority = 400

    def apply(self, **kwargs):
        """Change the document that was just read, when it is a chapter."""
        number = chapter_number(self.env.docname)
        if number is None:
            return
        path = Path(self.env.doc2path(self.env.docname))
        title = next(self.document.findall(nodes.title), None)
        if title is None or path.suffix != ".ipynb":
            logger.warning("a chapter is a notebook that begins with a title", location=self.env.docname)
            return
        if not title.astext().startswith(("Chapter ", number + " ", number + ".")):
            title.insert(0, nodes.Text(f"{number}. "))
        parent = title.parent
        parent.insert(parent.index(title) + 1, self.line(read_chapter(path)))
        for paragraph in list(self.document.findall(nodes.paragraph)):
            self.make_caption(paragraph)

    def line(self, chapter: dict) -> nodes.paragraph:
        """The line below the title."""
        root = "../" * self.env.docname.count("/")
        link = f'<a href="{root}_sources/{self.env.docname}.ipynb" download>Download the notebook</a>'
        line = nodes.paragraph(classes=["lm-facts"])
        for index, fact in enumerate(facts(chapter)):
            line += nodes.Text(fact if index == 0 else " · " + fact)
        line += nodes.raw("", (" · " if facts(chapter) else "") + link, format="html")
        return line

    def make_caption(self, paragraph: nodes.paragraph) -> None:
        """Join a paragraph that begins with a bold *Figure N.M.* with the image right above it."""
        first = next((child for child in paragraph.children if child.astext()), None)
        match = isinstance(first, nodes.strong) and CAPTION.match(first.astext())
        if not match:
            return
        label, above = match["label"], paragraph.previous_sibling()
        bundles = (
            []
            if above is None
            else [
                node
                for node in above.findall(nodes.container)
                if node.get("nb_element") == "mime_bundle" and any(True for _ in node.findall(nodes.image))
            ]
        )
        if not bundles:
            logger.warning(f"Figure {label}: no cell with an image is right above its caption", location=paragraph)
            return
        if not all(image.get("alt") for image in bundles[-1].findall(nodes.image)):
            logger.warning(f"Figure {label}: the cell has no alt text (mystnb.image.alt)", location=paragraph)
        figure = figure_with_caption(ids=[f"figure-{label.replace('.', '-').lower()}"])
        bundles[-1].replace_self(figure)
        caption = figure_caption("", "", *[child.deepcopy() for child in paragraph.children])
        figure += [bundles[-1], caption]
        paragraph.parent.remove(paragraph)


class figure_with_caption(nodes.General, nodes.Element):
    """A cell's image together with its caption."""


class figure_caption(nodes.Part, nodes.TextElement):
    """What the image shows."""


def visit_figure(translator, node):
    """Open <figure>."""
    translator.body.append(translator.starttag(node, "figure", CLASS="lm-figure"))


def depart_figure(translator, node):
    """Close <figure>."""
    translator.body.append("</figure>\n")


def visit_caption(translator, node):
    """Open <figcaption>."""
    translator.body.append(translator.starttag(node, "figcaption", ""))


def depart_caption(translator, node):
    """Close <figcaption>."""
    translator.body.append("</figcaption>\n")


# --- The list of chapters --------------------------------------------------------------------------------------------


class ChapterList(SphinxDirective):
    """`{chapters}`: for every part, a table of its written chapters with what it takes to read and to run them."""

    def run(self):
        """Read the table of contents and the notebooks it names."""
        toc = Path(self.config.external_toc_path)
        toc = toc if toc.is_absolute() else Path(self.env.srcdir) / toc
        self.env.note_dependency(str(toc))
        found = []
        for part in yaml.safe_load(toc.read_text(encoding="utf-8"))["parts"]:
            written = [entry["file"] for entry in part["chapters"] if chapter_number(entry["file"])]
            if written:
                found.append(nodes.rubric(part["caption"], part["caption"], classes=["lm-part"]))
                found.append(self.table(written))
        return found

    def table(self, docnames: list[str]) -> nodes.table:
        """One part's chapters."""
        rows = []
        for docname in docnames:
            path = Path(self.env.srcdir) / f"{docname}.ipynb"
            self.env.note_dependency(str(path))
            chapter = read_chapter(path)
            link = nodes.inline()
            source = f"{{doc}}`{chapter_number(docname)}. {chapter['title']} </{docname}>`"
            link += self.parse_inline(source)[0]
            run = chapter.get("run", {})
            to_run = f"{run['seconds']} s, {run['peak_megabytes']} MB" if run else "–"
            to_read = f"{chapter['minutes']} min" if "minutes" in chapter else "–"
            rows.append([link, nodes.Text(to_read), nodes.Text(to_run)])
        head = [nodes.Text("Chapter"), nodes.Text("to read"), nodes.Text("to run")]
        table = nodes.table(classes=["lm-chapters"])
        group = nodes.tgroup(cols=3)
        table += group
        group += [nodes.colspec(colwidth=width) for width in (60, 15, 25)]
        group += nodes.thead("", self.row(head))
        group += nodes.tbody("", *[self.row(cells) for cells in rows])
        return table

    def row(self, cells: list[nodes.Node]) -> nodes.row:
        """A row of a table."""
        return nodes.row("", *[nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells])


# --- The bibliography ------------------------------------------------------------------------------------------------


class Bibliography(SphinxDirective):
    """`{bibliography}`: every work that a chapter cites, written as in the chapters."""

    def run(self):
        """Read which works the chapters' texts cite: the notebooks hold the finished citations."""
        folder = Path(self.env.srcdir) / "chapters" / "text"
        references = Path(self.env.srcdir) / "book" / "references.bib"
        texts = sorted(folder.glob("*.md"))
        for path in (folder, references, *texts):
            self.env.note_dependency(str(path))
        keys = set().union(*[citations.cited(path.read_text(encoding="utf-8")) for path in texts])
        return self.parse_text_to_nodes(citations.listed(citations.select(keys, "chapters/text", references)))


# --- The whole site --------------------------------------------------------------------------------------------------


def show_repository_links(app, config):
    """Offer what needs the repository's address only when it is set."""
    options = config.html_theme_options
    has_address = bool(options.get("repository_url"))
    options.update(use_repository_button=has_address, use_issues_button=has_address)
    if not has_address:
        options.pop("launch_buttons", None)


def description(doctree: nodes.document) -> str:
    """The page's first paragraph of some length, cut at a word."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if len(text) > 60 and "lm-facts" not in paragraph["classes"]:
            return text if len(text) <= DESCRIPTION_LENGTH else text[:DESCRIPTION_LENGTH].rsplit(" ", 1)[0] + " …"
    return ""


def describe_page(app, pagename, templatename, context, doctree):
    """Add the description and what a link's preview shows."""
    text = app.env.metadata.get(pagename, {}).get("description") or (doctree is not None and description(doctree))
    text = text or f"{context.get('title', pagename)} — {app.config.html_title}"
    tags = {
        "og:title": re.sub(r"<[^>]+>", "", context.get("title") or app.config.html_title),
        "og:description": text,
        "og:type": "article" if chapter_number(pagename) else "website",
        "og:site_name": app.config.html_title,
    }
    lines = [f'<meta name="description" content="{escape(text)}" />']
    lines += [f'<meta property="{name}" content="{escape(value)}" />' for name, value in tags.items()]
    context["metatags"] = context.get("metatags", "") + "\n" + "\n".join(lines)


def leave_out_unused_mathjax(app, pagename, templatename, context, doctree):
    """Spare a page without a formula the megabyte of MathJax: Sphinx gives it to all that lead to a page with one."""
    if doctree is None or not any(True for kind in (nodes.math, nodes.math_block) for _ in doctree.findall(kind)):
        scripts = context.get("script_files", [])
        context["script_files"] = [script for script in scripts if "mathjax/" not in str(script.filename)]


FRONT_DOOR = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="description" content="{title}">
<meta http-equiv="refresh" content="0; url={target}">
</head>
<body>
<main><h1>{title}</h1><p><a href="{target}">To the book</a></p></main>
</body>
</html>
"""


def write_front_door(app, exception):
    """Let the site's address lead to the landing page."""
    if exception is None and app.builder.name == "html":
        page = FRONT_DOOR.format(title=escape(app.config.html_title), target=f"{app.config.root_doc}.html")
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def remove_stale_pages(app, exception):
    """Delete the pages of texts that left the table of contents: Sphinx would go on showing them."""
    if exception is None and app.builder.name == "html":
        out = Path(app.outdir)
        for page in out.rglob("*.html"):
            docname = page.relative_to(out).with_suffix("").as_posix()
            if docname not in {"index", "search", *app.env.found_docs} and not docname.startswith("_static/"):
                page.unlink()
                for source in (out / "_sources").glob(f"{docname}.*"):
                    source.unlink()


def look() -> int:
    """A number for the code, the style and the templates: Sphinx builds every page again when it changes."""
    book = Path(__file__).resolve().parents[1]
    files = [path for name in ("_ext", "_static", "_templates") for path in sorted((book / name).glob("*.*"))]
    files.append(Path(citations.__file__))
    return zlib.crc32(b"".join(path.read_bytes() for path in files))


def setup(app):
    """Tell Sphinx about all of it."""
    app.add_config_value("comments_config", {}, "")  # Jupyter Book sets it for an extension that is not loaded
    app.add_transform(Chapters)
    app.add_directive("chapters", ChapterList)
    app.add_directive("bibliography", Bibliography)
    app.add_node(figure_with_caption, html=(visit_figure, depart_figure))
    app.add_node(figure_caption, html=(visit_caption, depart_caption))
    app.connect("config-inited", show_repository_links)
    app.connect("html-page-context", describe_page)
    app.connect("html-page-context", leave_out_unused_mathjax, priority=900)
    app.connect("build-finished", write_front_door, priority=100)  # before Sphinx's table of contents writes its own
    app.connect("build-finished", remove_stale_pages)
    return {"version": "1", "env_version": look(), "parallel_read_safe": True, "parallel_write_safe": True}
