"""GGUF: a file written by hand byte by byte, the real model's description, and files that are none."""

import struct

import pytest

from lmcore import data
from lmcore.data.gguf import GGUF


def string(text):
    """A length and the bytes."""
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


@pytest.fixture
def tiny(tmp_path):
    """Three settings and two tensors."""
    settings = [
        string("general.name") + struct.pack("<I", 8) + string("tiny né"),
        string("tokens") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("bc"),
        string("numbers") + struct.pack("<IIQ3h", 9, 3, 3, -1, 0, 7),
    ]
    tensors = [
        string("w") + struct.pack("<IQQIQ", 2, 5, 3, 0, 0),
        string("b") + struct.pack("<IQIQ", 1, 5, 3, 64),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(settings)) + b"".join(settings + tensors)
    head += bytes(-len(head) % 32)
    path = tmp_path / "tiny.gguf"
    path.write_bytes(head + struct.pack("<15f", *range(15)) + bytes(100))
    return path, len(head)


def test_by_hand(tiny):
    path, begin = tiny
    gguf = GGUF(path)
    assert gguf.metadata == {"general.name": "tiny né", "tokens": ["a", "bc"], "numbers": [-1, 0, 7]}
    w, b = gguf.tensors.values()
    assert (w.name, w.shape, w.type, w.start) == ("w", (3, 5), "F32", begin)
    assert (b.name, b.shape, b.type, b.start) == ("b", (5,), "Q4_1", begin + 64)
    assert struct.unpack_from("<15f", path.read_bytes(), w.start) == tuple(range(15))
    assert repr(gguf) == "<GGUF tiny né: 3 settings, 2 tensors>"


def test_the_real_model():
    gguf = GGUF(data.member_path("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    assert gguf.metadata["llama.block_count"] == 30
    assert len(gguf.metadata["tokenizer.ggml.tokens"]) == 49_152
    assert len(gguf.metadata["tokenizer.ggml.merges"]) == 48_900
    assert len(gguf.tensors) == 272
    assert gguf.tensors["token_embd.weight"].shape == (49_152, 576)
    ends = sorted(info.start for info in gguf.tensors.values())
    assert ends[-1] < gguf.path.stat().st_size


@pytest.mark.parametrize("keep", [5, 30, 60, 100, 150])
def test_truncated(tiny, keep):
    path, begin = tiny
    assert keep < begin
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(data.DataError, match=r"tiny\.gguf ends in the middle of its description"):
        GGUF(path)


def test_another_file_another_version_another_type(tiny):
    path, _ = tiny
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + struct.pack("<I", 9) + whole[8:])
    with pytest.raises(data.DataError, match=r"has version 9 of the format; known are \(2, 3\)"):
        GGUF(path)
    path.write_bytes(
        whole.replace(string("general.name") + struct.pack("<I", 8), string("general.name") + b"\xff\0\0\0")
    )
    with pytest.raises(data.DataError, match="unknown type 255"):
        GGUF(path)
    path.write_bytes(b"PK" + whole)
    with pytest.raises(data.DataError, match="does not begin with GGUF"):
        GGUF(path)
