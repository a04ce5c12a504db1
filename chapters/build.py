"""Execute the chapters' texts into the notebooks that people read.

    python chapters/build.py                 all chapters
    python chapters/build.py 01 linear       those whose name contains one of the words
    python chapters/build.py --check         nothing is run; fails if a text and its notebook differ
    python chapters/build.py --fetch         nothing is run; gets and verifies the data that the chapters name

A notebook is replaced only when every cell ran. What the run took (seconds, peak memory) is stored in its metadata.
"""

import argparse
import hashlib
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tqdm import tqdm

from lmcore.checking import load

CHAPTERS = Path(__file__).resolve().parent
citations = load(CHAPTERS / "citations.py")
CELL_TIMEOUT = 300  # seconds; a chapter has a minute, so whoever waits this long hangs


def texts(words: list[str] = ()) -> list[Path]:
    """The chapters' texts in order; with words, those whose name contains one of them."""
    found = sorted((CHAPTERS / "text").glob("[0-9A]*.md"))
    chosen = [path for path in found if not words or any(word in path.stem for word in words)]
    if not chosen:
        names = ", ".join(path.stem for path in found) or "none yet"
        raise SystemExit(f"No chapter matches {' '.join(words) or 'anything'}. There are: {names}.")
    return chosen


def notebook_path(text: Path) -> Path:
    """Where the executed notebook of a text lies."""
    return CHAPTERS / f"{text.stem}.ipynb"


def read_text(text: Path) -> nbformat.NotebookNode:
    """Read a text as a notebook without outputs: citations written out, cell ids that depend on the sources only."""
    notebook = jupytext.read(text)
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    for cell, source in zip(prose, citations.resolve([cell.source for cell in prose], text.name), strict=True):
        cell.source = source
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}:{cell.source}".encode()).hexdigest()[:10]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = f"{digest}-{seen[digest]}"
    return notebook


def differences(text: Path) -> list[str]:
    """Say, a line each, where a text and its notebook differ; an empty list when they are equal."""
    path = notebook_path(text)
    if not path.exists():
        return [f"{path.name} does not exist"]
    wanted, stored = read_text(text), nbformat.read(path, as_version=4)
    found = []
    if len(wanted.cells) != len(stored.cells):
        found.append(f"{text.name} has {len(wanted.cells)} cells, {path.name} has {len(stored.cells)}")
    for number, (new, old) in enumerate(zip(wanted.cells, stored.cells, strict=False), start=1):
        tags = [cell.metadata.get("tags", []) for cell in (new, old)]
        alts = [cell.metadata.get("mystnb") for cell in (new, old)]
        if (new.cell_type, new.source.rstrip()) != (old.cell_type, old.source.rstrip()):
            found.append(f"cell {number} differs: {new.source[:60]!r} became {old.source[:60]!r}")
        elif tags[0] != tags[1] or alts[0] != alts[1]:
            found.append(f"cell {number} differs in its metadata: {new.source[:60]!r}")
    for cell in stored.cells:
        failed = any(output.output_type == "error" for output in cell.get("outputs", []))
        if failed and "raises-exception" not in cell.metadata.get("tags", []):
            found.append(f"{path.name} stores an error: {cell.source[:60]!r}")
    if not any(cell.get("outputs") for cell in stored.cells):
        found.append(f"{path.name} has no stored outputs")
    return found


def execute(text: Path) -> nbformat.NotebookNode:
    """Run a text's cells in a fresh kernel and return the notebook with outputs and what the run took."""
    notebook = read_text(text)
    n_code = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=n_code, desc=text.stem, unit="cell", file=sys.stderr, disable=None) as progress:
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            resources={"metadata": {"path": str(CHAPTERS)}},
            on_cell_executed=lambda **_: progress.update(),
        )
        start = time.perf_counter()
        with client.setup_kernel():
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
            seconds = time.perf_counter() - start
            peak = peak_megabytes(client)
    run = nbformat.from_dict({"seconds": round(seconds), "peak_megabytes": peak})
    notebook.metadata.setdefault("lmbook", nbformat.from_dict({})).run = run
    notebook.metadata.pop("language_info", None)  # holds the exact Python version, which is the reader's own business
    return notebook


def peak_megabytes(client: NotebookClient) -> int:
    """Ask the notebook's process how much memory it held at most."""
    code = """
import psutil, re
try:  # Linux: getrusage would also count the process that started this one
    print(int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) * 1024)
except OSError:
    memory = psutil.Process().memory_info()
    print(getattr(memory, "peak_wset", memory.rss))  # Windows knows the peak; macOS: what is held at the end
"""
    client.nb.cells.append(nbformat.v4.new_code_cell(code))
    client.execute_cell(client.nb.cells[-1], len(client.nb.cells) - 1)
    return round(int(client.nb.cells.pop().outputs[0].text) / 1e6)


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook under a temporary name and rename it, so that a reader never sees half of one."""
    partial = path.with_suffix(".partial")
    nbformat.write(notebook, partial)
    os.replace(partial, path)


def data_names() -> list[str]:
    """What the chapters' headers say they load."""
    return sorted({name for text in texts() for name in read_text(text).metadata.get("lmbook", {}).get("data", [])})


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0 when all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="CHAPTER", help="part of a chapter's name; none: all chapters")
    parser.add_argument("--check", action="store_true", help="only compare texts and notebooks")
    parser.add_argument("--fetch", action="store_true", help="only get and verify the data that the chapters name")
    options = parser.parse_args(arguments)
    if options.fetch:
        from lmcore.data.__main__ import main as data

        return data(["fetch", *data_names()])
    if options.check:
        found = [line for text in texts(options.words) for line in differences(text)]
        print("\n".join(found) or "Texts and notebooks agree.")
        return bool(found)
    for text in texts(options.words):
        try:
            notebook = execute(text)
        except CellExecutionError as error:
            print(re.sub(r"\x1b\[[0-9;]*m", "", str(error)), file=sys.stderr)
            print(f"{text.name}: a cell failed; {notebook_path(text).name} is left as it was.", file=sys.stderr)
            return 1
        write(notebook, notebook_path(text))
        run = notebook.metadata.lmbook.run
        print(f"{text.stem}: {run.seconds} s, {run.peak_megabytes} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
