"""Turn the citations and the reference list of a chapter's text into plain Markdown, which every reader shows.

    {cite:t}`shannon1948mathematical`           becomes   Shannon (1948)
    {cite:p}`katz1987estimation,chen1996…`      becomes   (Katz, 1987; Chen and Goodman, 1996)
    :::{bibliography}                           becomes   a list of the works that this chapter cites
    :::

The keys are those of `book/references.bib`. The website's bibliography is written by the same functions.
"""

import difflib
import re
import string
import unicodedata
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import quote

from pybtex.database import Entry, Person, parse_file
from pybtex.richtext import Text

REFERENCES = Path(__file__).resolve().parent.parent / "book" / "references.bib"
CITATION = re.compile(r"\{cite:([tp])\}`([^`]+)`")
LIST = re.compile(r"^:::\{bibliography\}\n(?::\w.*\n)*:::$", re.MULTILINE)
MOST_AUTHORS = 10  # in the list; of more, the first ten are named
KINDS = {"techreport": "Technical report", "phdthesis": "PhD thesis", "mastersthesis": "Master's thesis"}
LINKS = {"doi": ("doi:", "https://doi.org/"), "eprint": ("arXiv:", "https://arxiv.org/abs/"), "url": ("", "")}


def cited(source: str) -> set[str]:
    """The keys that a text cites.

    >>> sorted(cited("{cite:t}`a` and {cite:p}`b, c`"))
    ['a', 'b', 'c']
    """
    return {key.strip() for _, keys in CITATION.findall(source) for key in keys.split(",")}


def resolve(sources: list[str], name: str, references: Path = REFERENCES) -> list[str]:
    """Write out the citations and the reference list in the Markdown cells of one chapter.

    Args:
        sources: the cells, in order; the letters of 2013a and 2013b hold for all of them.
        name: the text's name, for messages.
        references: the BibTeX file.
    Raises:
        ValueError: A key is unknown, an entry is incomplete, or citations and list do not go together.
    """
    works = select(cited("\n".join(sources)), name, references)
    lists = sum(len(LIST.findall(source)) for source in sources)
    if lists != (1 if works else 0):
        raise ValueError(f"{name} cites {len(works)} works and has {lists} {{bibliography}}; a text that cites has one")

    def citation(match: re.Match) -> str:
        chosen = [(authors(works[key][0]), works[key][1]) for key in map(str.strip, match[2].split(","))]
        if match[1] == "t":
            return joined([f"{who} ({year})" for who, year in chosen])
        return f"({'; '.join(f'{who}, {year}' for who, year in chosen)})"

    written = [LIST.sub(lambda _: listed(works), CITATION.sub(citation, source)) for source in sources]
    if raw := re.search(r"\{(cite|bibliography)\b.*", "\n".join(written)):
        raise ValueError(f"{name} has {raw[0]!r}; what is known is {{cite:t}}, {{cite:p}} and :::{{bibliography}}")
    return written


def select(keys: set[str], name: str, references: Path = REFERENCES) -> dict[str, tuple[Entry, str]]:
    """The works with these keys and their years, by author, year and title; those cited alike get a letter."""
    entries = dict(parse_file(str(references), bib_format="bibtex", encoding="utf-8").entries.items()) if keys else {}
    for key in sorted(keys - entries.keys()):
        (closest,) = difflib.get_close_matches(key, entries, n=1, cutoff=0) or ["none"]
        raise ValueError(f"{name} cites {key!r}, which is not in {references.name}; the closest key is {closest!r}")
    chosen = dict(sorted(((key, entries[key]) for key in keys), key=lambda item: place(item[1])))
    names = {key: (authors(entry), required(entry, "year")) for key, entry in chosen.items()}
    total, letters = Counter(names.values()), {name: iter(string.ascii_lowercase) for name in names.values()}
    years = {key: name[1] + (next(letters[name]) if total[name] > 1 else "") for key, name in names.items()}
    return {key: (entry, years[key]) for key, entry in chosen.items()}


def listed(works: dict[str, tuple[Entry, str]]) -> str:
    """The works as a Markdown list."""
    return "\n".join(f"- {reference(entry, year)}" for entry, year in works.values())


def place(entry: Entry) -> list:
    """What works are ordered by, without regard to accents and capitals."""
    words = [*map(surname, people(entry)), required(entry, "year"), required(entry, "title"), entry.key]
    return [
        "".join(c for c in unicodedata.normalize("NFKD", word) if c.isalnum() or c == " ").lower() for word in words
    ]


# --- One work --------------------------------------------------------------------------------------------------------


def people(entry: Entry) -> list[Person]:
    """A work's authors, or else its editors."""
    found = entry.persons.get("author") or entry.persons.get("editor")
    if not found:
        raise ValueError(f"the entry {entry.key!r} has neither an author nor an editor")
    return found


def required(entry: Entry, name: str) -> str:
    """A field that every work must have."""
    if name not in entry.fields:
        raise ValueError(f"the entry {entry.key!r} has no {name}")
    return markdown(entry.fields[name])


def escaped(text: str) -> str:
    """A text whose stars, brackets and the like are not taken for Markdown."""
    return re.sub(r"([*_`\[\]<])", r"\\\1", text)


@cache
def markdown(latex: str) -> str:
    r"""Resolve LaTeX's accents, dashes and braces; formulas stay.

    >>> markdown(r"{\"U}ber $n$-grams, {BERT} and A*: 3--7")
    'Über $n$-grams, BERT and A\\*: 3–7'
    """
    text = " ".join(latex.split())
    if re.search(r"[\\{}$~`'\"%]|--", text):  # the others are as they should be, and pybtex takes 40 ms for each
        text = Text.from_latex(text).render_as("text")
    return escaped(text)


def surname(person: Person) -> str:
    """A person's last name with its particles, or an institution's name."""
    return markdown(" ".join(person.prelast_names + person.last_names))


def full_name(person: Person) -> str:
    """A person's last name and initials, as a reference list has it.

    >>> full_name(Person("Ming-Wei Chang")), full_name(Person("King, Jr., Martin Luther"))
    ('Chang, M.-W.', 'King, M. L., Jr.')
    """
    given = [markdown(name) for name in person.first_names + person.middle_names]
    initials = ["-".join(f"{part[0]}." for part in name.split("-") if part) for name in given]
    return ", ".join(part for part in (surname(person), " ".join(initials), *person.lineage_names) if part)


def joined(names: list[str], most: int = 99, keep: int = 99) -> str:
    """Names with commas and an *and*; of more than `most` names, or with *others*, the first `keep` and *et al.*.

    >>> joined(["A"]), joined(["A", "B", "C"]), joined(["A", "B", "C"], most=2, keep=1), joined(["A", "others"])
    ('A', 'A, B and C', 'A et al.', 'A et al.')
    """
    known = [name for name in names if name != "others"]
    if len(names) > most or known != names:
        return ", ".join(known[:keep]) + " et al."
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def authors(entry: Entry) -> str:
    """A work's authors as the text names them: one, two, or the first with *et al.*."""
    return joined([surname(person) for person in people(entry)], most=2, keep=1)


def venue(entry: Entry) -> str:
    """Where a work appeared: journal or proceedings with volume, number and pages; an institution."""
    has = {name: markdown(text) for name, text in entry.fields.items()}
    source = f"*{has['journal']}*" if "journal" in has else f"In *{has['booktitle']}*" if "booktitle" in has else ""
    series, volume, number = has.get("series", ""), has.get("volume", ""), has.get("number", "")
    issue = f"{volume}({number})" if volume and number else volume or number
    place = [source or has.get("type", KINDS.get(entry.type, "")), " ".join(filter(None, [series, issue]))]
    return ", ".join(filter(None, [*place, has.get("pages"), has.get("institution"), has.get("school")]))


def links(entry: Entry) -> str:
    """A work's DOI, number at arXiv and address, as links."""
    found = {name: entry.fields[name].replace("\\", "") for name in LINKS if name in entry.fields}
    safe = {name: quote(text, safe="/:;.,-_~?&=#%+@!") for name, text in found.items()}
    return ", ".join(
        f"[{escaped(LINKS[name][0] + text)}]({LINKS[name][1]}{safe[name]})" for name, text in found.items()
    )


def reference(entry: Entry, year: str) -> str:
    """A work as the list has it; a book's title is in italics."""
    names = joined([full_name(person) for person in people(entry)], most=MOST_AUTHORS, keep=MOST_AUTHORS)
    title = f"*{required(entry, 'title')}*" if entry.type == "book" else required(entry, "title")
    if "edition" in entry.fields:
        title += f" ({markdown(entry.fields['edition'])} edition)"
    publisher = markdown(entry.fields.get("publisher", entry.fields.get("howpublished", "")))
    note = markdown(entry.fields.get("note", ""))
    parts = [f"{names} ({year})", title, venue(entry), publisher, note, links(entry)]
    return " ".join(part if part.rstrip("*")[-1] in ".?!" else f"{part}." for part in parts if part)
