"""Reading GGUF, the file format of llama.cpp: what the file says of itself, and where its tensors lie.

A file is a header, key–value pairs (settings, the tokenizer's tokens and merges), the names, shapes and types of the
tensors, and then the tensors. The description is read at once, and of the numbers only what somebody asks for.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .archive import DataError

if TYPE_CHECKING:
    import numpy as np

MAGIC, VERSIONS = b"GGUF", (2, 3)
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 30: "BF16"}  # those of the book


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """Name, shape (slowest axis first, as in NumPy), type and place of a tensor."""

    name: str
    shape: tuple[int, ...]
    type: str
    start: int  # bytes from the beginning of the file


class _Reader:
    """Takes values off the front of a mapped file; running past its end is an error with a name."""

    def __init__(self, path: Path, view: mmap.mmap):
        self.path, self.view, self.place = path, view, 0

    def raw(self, size: int) -> bytes:
        """The next bytes."""
        if self.place + size > len(self.view):
            raise DataError(f"{self.path} ends in the middle of its description: it is truncated, or not a GGUF file")
        self.place += size
        return self.view[self.place - size : self.place]

    def number(self, kind: str) -> Any:
        """A number of the struct module's kind, little-endian."""
        return struct.unpack("<" + kind, self.raw(struct.calcsize("<" + kind)))[0]

    def string(self) -> str:
        """A length and so many bytes of UTF-8."""
        return self.raw(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """A value of one of the format's types."""
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            if inner in _NUMBERS:
                return list(
                    struct.unpack(f"<{count}{_NUMBERS[inner]}", self.raw(count * struct.calcsize(_NUMBERS[inner])))
                )
            return [self.value(inner) for _ in range(count)]
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        raise DataError(f"{self.path} holds a value of the unknown type {kind} at byte {self.place}")


class GGUF:
    """The description of a GGUF file.

    Args:
        path: the file.
    Attributes:
        metadata: settings by name, such as ``general.architecture`` or ``tokenizer.ggml.tokens``.
        tensors: `TensorInfo` by name.
    Raises:
        DataError: no GGUF file, a version that is not known, or a truncated one.
    Source: the format's specification in the ggml project, versions 2 and 3.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        with open(self.path, "rb") as file:
            if file.read(4) != MAGIC:
                raise DataError(f"{self.path} is not a GGUF file: it does not begin with {MAGIC.decode()}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                self._read(_Reader(self.path, view))

    def _read(self, reader: _Reader) -> None:
        """Read everything up to the first tensor."""
        reader.raw(4)
        version = reader.number("I")
        if version not in VERSIONS:
            raise DataError(f"{self.path} has version {version} of the format; known are {VERSIONS}")
        n_tensors, n_settings = reader.number("Q"), reader.number("Q")
        self.metadata = {}
        for _ in range(n_settings):
            name = reader.string()
            self.metadata[name] = reader.value(reader.number("I"))
        found = []
        for _ in range(n_tensors):
            name, n_axes = reader.string(), reader.number("I")
            shape = tuple(reader.number("Q") for _ in range(n_axes))[::-1]  # the file has the fastest axis first
            found.append((name, shape, reader.number("I"), reader.number("Q")))
        alignment = self.metadata.get("general.alignment", 32)
        begin = -(-reader.place // alignment) * alignment
        self.tensors = {
            name: TensorInfo(name=name, shape=shape, type=TYPES.get(kind, f"type {kind}"), start=begin + offset)
            for name, shape, kind, offset in found
        }

    def tensor(self, name: str) -> np.ndarray:
        """The numbers of a tensor, decoded to float32.

        Raises:
            KeyError: the file has no such tensor.
            DataError: a type that is not read here, or a file that ends before the tensor does.
        Cost: as `lmcore.data.gguf_blocks.decode_blocks`; only this tensor's part of the file is read.
        """
        import numpy as np  # here, since the description needs none of it

        from .gguf_blocks import KINDS, decode_blocks

        info = self.tensors[name]
        if info.type not in KINDS:
            raise DataError(f"{name} of {self.path} is of {info.type}; read are {', '.join(KINDS)}")
        count = math.prod(info.shape)
        size = count // KINDS[info.type].numbers * KINDS[info.type].bytes
        if info.start + size > self.path.stat().st_size:
            raise DataError(f"{self.path} ends in the middle of {name}: it is truncated")
        raw = np.fromfile(self.path, dtype=np.uint8, count=size, offset=info.start)
        return decode_blocks(raw, info.type).reshape(info.shape)

    def __repr__(self) -> str:
        name = self.metadata.get("general.name", self.path.name)
        return f"<GGUF {name}: {len(self.metadata)} settings, {len(self.tensors)} tensors>"
