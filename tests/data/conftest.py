"""A tiny wheel, a folder that serves it to pip, and an empty cache: downloads for real, without a network."""

import hashlib
import os
import zipfile

import pytest

from lmcore.data.archive import Archive
from lmcore.data.cards import Card
from lmcore.data.catalogue import CARDS


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """pip sees only a folder; the cache is empty."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(served))
    monkeypatch.setenv("LMCORE_CACHE", str(tmp_path / "cache"))
    return served


@pytest.fixture
def tiny(offline, monkeypatch):
    """The archive of a wheel with two members, known to `lmcore.data` under the name tiny."""
    path = offline / "tinydata-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tinydata/model/weights.bin", bytes(range(256)) * 7)
        wheel.writestr("tinydata/words.txt", "one two three\n")
        wheel.writestr("tinydata/model/words.txt", "four\n")
        wheel.writestr("tinydata-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinydata\nVersion: 1.0\n")
        wheel.writestr("tinydata-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tinydata-1.0.dist-info/RECORD", "")
    archive = Archive(
        project="tinydata",
        version="1.0",
        file=path.name,
        size=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        members=(("tinydata/model/weights.bin", hashlib.sha256(bytes(range(256)) * 7).hexdigest()),),
    )
    texts = dict.fromkeys(("title", "what", "licence", "size", "citation"), "tiny")
    card = Card(
        name="tiny", kind="model", caveats=(), cleaning=(), member="tinydata/words.txt", archive=archive, **texts
    )
    monkeypatch.setitem(CARDS, "tiny", card)
    return archive
