"""Files inside an archive, read as data: a wheel is a zip file, a source archive a compressed tar file."""

import hashlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .archive import Archive, DataError, cache_folder, complaint_about, fetch, scratch, writing


class _Zip:
    """The files of an open zip file."""

    look = "python -m zipfile -l FILE"

    def __init__(self, path: Path):
        self.close_me = zipfile.ZipFile(path)
        self.sizes = {info.filename: info.file_size for info in self.close_me.infolist() if not info.is_dir()}

    def open(self, name: str) -> BinaryIO:
        """Open one of them."""
        return self.close_me.open(name)


class _Tar:
    """The regular files of an open tar file; links and devices are passed over."""

    look = "python -m tarfile -l FILE"

    def __init__(self, path: Path):
        self.close_me = tarfile.open(path)  # noqa: SIM115 (closed by _opened)
        self.sizes = {info.name: info.size for info in self.close_me if info.isfile()}

    def open(self, name: str) -> BinaryIO:
        """Open one of them."""
        return self.close_me.extractfile(name)


@contextmanager
def _opened(archive: Archive) -> Iterator[_Zip | _Tar]:
    """Open a verified archive."""
    whole = (_Zip if archive.file.endswith(".whl") else _Tar)(fetch(archive))
    with whole.close_me:
        yield whole


def _find(whole: _Zip | _Tar, archive: Archive, member: str) -> str:
    """The full name of a member of an open archive."""
    names = [name for name in whole.sizes if name == member or name.endswith(f"/{member}")]
    if len(names) == 1:
        return names[0]
    raise DataError(f"{archive.file} has {len(names) or 'no'} members {member!r}; look with: {whole.look}")


@contextmanager
def open_member(archive: Archive, member: str) -> Iterator[BinaryIO]:
    """Open one member of an archive as a binary file; `member` is its path, or an unambiguous end of its path."""
    with _opened(archive) as whole, whole.open(_find(whole, archive, member)) as file:
        yield file


def member_path(archive: Archive, member: str) -> Path:
    """Path of a member that is unpacked into the cache, for readers that map a file into memory.

    Raises:
        DataError: no such member, its content is not what was pinned, or the cache cannot be written.
    """
    with _opened(archive) as whole:
        name = _find(whole, archive, member)
        path = cache_folder() / "unpacked" / archive.file.removesuffix(".whl").removesuffix(".tar.gz") / name
        if (sha256 := dict(archive.members).get(name)) is None:
            with whole.open(name) as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if complaint_about(path, whole.sizes[name], sha256):
            with writing(path), scratch(path) as folder:
                new = folder / path.name
                with whole.open(name) as source, open(new, "wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                if complaint := complaint_about(new, whole.sizes[name], sha256):
                    raise DataError(f"{complaint} The pins of {archive.file} and of this member disagree.")
                os.replace(new, path)
    return path
