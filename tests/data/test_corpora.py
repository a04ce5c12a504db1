"""The real corpora: counted, read by hand, and free of what cleaning says it removes."""

import hashlib
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore import data
from lmcore.data import bible


@pytest.fixture(scope="module")
def king_james():
    return data.load("king-james")


@pytest.fixture(scope="module")
def world_english():
    return data.load("world-english")


def test_counts(king_james, world_english):
    for corpus, words in (king_james, 789_859), (world_english, 763_344):
        assert len(corpus) == len(corpus.texts()) == 31_102
        assert len(corpus.books()) == 66
        assert len(corpus.chapters()) == 1_189
        assert sum(len(text.split()) for text in corpus.texts()) == words
        assert f"{words:,} words" in corpus.card.size
        assert repr(corpus) == f"<Bible {corpus.card.name}: 66 books, 31,102 × Verse, {words:,} words>"


@pytest.mark.parametrize(
    ("reference", "old", "new"),
    [
        (
            ("Genesis", 1, 1),
            "In the beginning God created the heaven and the earth.",
            "In the beginning God created the heavens and the earth.",
        ),
        (
            ("Genesis", 1, 2),
            "And the earth was without form, and void; and darkness was upon the face of the deep. "
            "And the Spirit of God moved upon the face of the waters.",
            "Now the earth was formless and empty. Darkness was on the surface of the deep. "
            "God's Spirit was hovering over the surface of the waters.",
        ),
        (("John", 11, 35), "Jesus wept.", "Jesus wept."),
        (
            ("Psalms", 119, 1),
            "Blessed are the undefiled in the way, who walk in the law of the LORD.",
            "Blessed are those whose ways are blameless, Who walk according to the law of Yahweh.",
        ),
        (
            ("Psalms", 119, 8),
            "I will keep thy statutes: O forsake me not utterly.",
            "I will observe your statutes. Don't utterly forsake me.",
        ),
        (
            ("Mark", 16, 9),
            "Now when Jesus was risen early the first day of the week, he appeared first to Mary Magdalene, "
            "out of whom he had cast seven devils.",
            "Now when he had risen early on the first day of the week, he appeared first to Mary Magdalene, "
            "from whom he had cast out seven demons.",
        ),
        (
            ("Job", 42, 17),
            "So Job died, being old and full of days.",
            "So Job died, being old and full of days.",
        ),
        (
            ("Song of Songs", 1, 4),
            "Draw me, we will run after thee: the king hath brought me into his chambers: we will be glad and rejoice "
            "in thee, we will remember thy love more than wine: the upright love thee.",
            "Take me away with you. Let us hurry. The king has brought me into his chambers. We will be glad and "
            "rejoice in you. We will praise your love more than wine! They are right to love you.",
        ),
        (
            ("Revelation", 22, 21),
            "The grace of our Lord Jesus Christ be with you all. Amen.",
            "The grace of the Lord Jesus be with all the saints. Amen.",
        ),
    ],
)
def test_verses_read_by_hand(king_james, world_english, reference, old, new):
    assert king_james.select(*reference).texts() == [old]
    assert world_english.select(*reference).texts() == [new]


def test_nothing_is_left_of_what_cleaning_removes(king_james, world_english):
    for corpus in king_james, world_english:
        text = "\n".join(corpus.texts())
        assert not re.search(r"[\[\]`’\d]|  |^ | $|^$", text, re.MULTILINE)
        assert not re.search(r"\bPsalm\b|\bBOOK\b|ALEPH|SHIN$", text, re.MULTILINE)
        assert not re.search(r"Lover|Friends|Beloved", " ".join(corpus.select("Song of Songs").texts()))
        assert all(bible.clean(verse.text) == verse.text for verse in corpus)
    assert set("".join(king_james.texts())) <= set(string.ascii_letters + " !'(),-.:;?" + "Ææ—")
    assert set("".join(world_english.texts())) <= set(string.ascii_letters + " !'(),-.:;?\"")


def test_structure(king_james):
    assert king_james.books()[:3] == ["Genesis", "Exodus", "Leviticus"]
    assert king_james.books()[-1] == "Revelation"
    ruth = king_james.select("Ruth")
    assert (len(ruth), len(ruth.chapters()), ruth.books()) == (85, 4, ["Ruth"])
    assert [len(chapter) for chapter in ruth.chapters()] == [22, 23, 18, 22]
    assert king_james.select("Ruth", 1) == ruth[:22]
    assert ruth[0].reference == "Ruth 1:1"
    with pytest.raises(ValueError, match=r"no verse at 'Ruth 5'; the books are Genesis, Exodus"):
        king_james.select("Ruth", 5)
    with pytest.raises(ValueError, match="no verse at 'Ruth 1:23'"):
        king_james.select("Ruth", 1, 23)


def test_a_dataset_is_an_immutable_sequence(king_james):
    piece = king_james[7:11]
    assert isinstance(piece, data.Bible)
    assert list(piece) == [king_james[i] for i in range(7, 11)]
    assert piece.card is king_james.card
    assert piece.cleaning == king_james.card.cleaning
    assert king_james.index(piece[1]) == 8
    assert piece == king_james[7:11] != king_james[7:12]
    assert hash(piece) == hash(king_james[7:11])
    assert piece != list(piece)
    assert repr(king_james[:0]) == "<Bible king-james: 0 books, 0 × record, 0 words>"
    with pytest.raises(TypeError):
        king_james[0] = piece[0]
    with pytest.raises(AttributeError):
        king_james[0].text = ""


def test_align(king_james, world_english):
    pairs = data.align(king_james, world_english)
    assert len(pairs) == 31_099
    assert all(one[:3] == other[:3] for one, other in pairs)
    paired = {one[:3] for one, _ in pairs}
    assert [v.reference for v in king_james if v[:3] not in paired] == ["Romans 16:25", "Romans 16:26", "Romans 16:27"]
    assert [v.reference for v in world_english if v[:3] not in paired] == [
        "Romans 14:24",
        "Romans 14:25",
        "Romans 14:26",
    ]
    assert [(b, a) for a, b in pairs] == data.align(world_english, king_james)
    assert data.align(king_james[:5], world_english[3:7]) == [(king_james[i], world_english[i]) for i in (3, 4)]


words = st.lists(st.text("abcXYZ.,;!?'\"-()", min_size=1), min_size=1).filter(lambda parts: any(map(str.strip, parts)))


@given(st.text(string.ascii_letters + " \n\t[]`’.,;0123456789"))
def test_cleaning_a_verse_twice_changes_nothing(text):
    assert bible.clean(bible.clean(text)) == bible.clean(text)


@given(words)
def test_cleaning_a_verse_keeps_plain_words(parts):
    assert bible.clean(" " + " ".join(parts) + "\n") == " ".join(parts)


def test_verses_reads_source_code_without_running_it():
    source = (
        'import nothing\nb = B("""One [was] two.\nThree`s.""", {1001001: 0, 66022021: 14}, {1001001: 14, 66022021: 23})'
    )
    assert list(bible.verses(source)) == [
        data.Verse("Genesis", 1, 1, "One was two."),
        data.Verse("Revelation", 22, 21, "Three's."),
    ]


def test_python_topics():
    topics = data.load("python-topics")
    assert len(topics) > 60
    assert [topic.title for topic in topics] == sorted(topic.title for topic in topics)
    lambdas = next(topic for topic in topics if topic.title == "lambda")
    assert lambdas.text.startswith("Lambdas\n*******")
    assert sum(len(text.split()) for text in topics.texts()) > 40_000


def test_evaluation_sets():
    wordsim, simlex, analogies = (data.load(name) for name in ("wordsim353", "simlex999", "analogies"))
    assert (len(wordsim), len(simlex), len(analogies)) == (353, 999, 19_544)
    assert wordsim[0] == data.WordPair("love", "sex", 6.77)
    assert simlex[0] == data.WordPair("old", "new", 1.58)
    assert all(0 <= pair.score <= 10 for pair in (*wordsim, *simlex))
    assert analogies[0] == data.Analogy("capital-common-countries", "Athens", "Greece", "Baghdad", "Iraq")
    assert len({analogy.section for analogy in analogies}) == 14
    assert repr(analogies) == "<Dataset analogies: 19,544 × Analogy>"
    assert not hasattr(wordsim, "texts")


@pytest.mark.parametrize(
    ("name", "member", "size", "starts", "sha256"),
    [
        (
            "minilm",
            "model.safetensors",
            90_868_376,
            b"",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        (
            "smollm2",
            "Q4_1.gguf",
            98_362_432,
            b"GGUF",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ],
)
def test_models(name, member, size, starts, sha256):
    whole = data.card(name).member
    assert whole.endswith(member)
    path = data.member_path(name, whole)
    assert path.stat().st_size == size
    with open(path, "rb") as file:
        assert file.read(4).startswith(starts)
        file.seek(0)
        assert hashlib.file_digest(file, "sha256").hexdigest() == sha256


def test_vocabulary_of_the_encoder():
    with data.open_member("minilm", "vocab.txt") as file:
        pieces = file.read().decode().splitlines()
    assert len(pieces) == 30_522
    assert pieces[101] == "[CLS]"
