"""The data card: what one should know about a corpus or model before using it."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

from .archive import Archive


@dataclass(frozen=True, kw_only=True)
class Card:
    """What it is, whence, under which licence, and what to beware of.

    `kind` is corpus, evaluation or model; `cleaning` says what `load` did to the source.
    """

    name: str
    title: str
    kind: str
    what: str
    licence: str
    size: str
    caveats: tuple[str, ...]
    cleaning: tuple[str, ...]
    citation: str
    member: str = ""  # path inside the archive
    archive: Archive | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("corpus", "evaluation", "model"):
            raise ValueError(f"kind is {self.kind!r}; allowed: corpus, evaluation, model")

    @property
    def whence(self) -> str:
        """Project, version and member that it is read from."""
        if self.archive is None:
            return "Python's standard library, pydoc_data.topics"
        return f"{self.archive.requirement}, {self.member}"

    def _rows(self) -> list[tuple[str, Sequence[str]]]:
        """Label and lines of each field."""
        download = f"{self.archive.size / 1e6:.1f} MB, {self.archive.file}" if self.archive else "none"
        return [
            ("what", [self.what]),
            ("whence", [self.whence]),
            ("download", [download]),
            ("licence", [self.licence]),
            ("size", [self.size]),
            ("cleaning", self.cleaning),
            ("caveats", self.caveats),
            ("citation", [self.citation]),
        ]

    def __str__(self) -> str:
        lines = [f"{self.title} ({self.name}, {self.kind})"]
        for label, entries in self._rows():
            for i, entry in enumerate(entries):
                lead = f"  {label if i == 0 else '':10}"
                lines.append(fill(entry, 100, initial_indent=lead, subsequent_indent=" " * 12, break_on_hyphens=False))
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        rows = [f"| {label} | {'<br>'.join(entries)} |" for label, entries in self._rows() if entries]
        return "\n".join([f"**{self.title}** — `{self.name}`, {self.kind}", "", "| | |", "|---|---|", *rows])
