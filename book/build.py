"""Build the book's website with Jupyter Book, into book/_build/html.

    python book/build.py             get and verify the chapters' data, then build what has changed
    python book/build.py --no-data   only build: the pages show the outputs that are stored in the notebooks
    python book/build.py --all       build every page again
    python book/build.py --serve     build, then serve the site on this computer and open it (--port N)

A warning is an error.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
OUTPUT = BOOK / "_build"
HTML = OUTPUT / "html"
PROGRESS = re.compile(r"(reading sources|writing output|copying images)\.\.\. ?\[ *(\d+)%\] ?(\S*)")
TIME_LIMIT = 900  # seconds; the whole book takes less than a minute


def command(root: Path, *, everything: bool) -> list[str]:
    """The command `jupyter-book build …`, with this Python."""
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    book = ["--config", "book/_config.yml", "--toc", "book/_toc.yml", "--path-output", "book"]
    strict = ["-W", "-n", "--keep-going"]
    return [*jupyter_book, "build", str(root), *book, *strict, *(["--all"] if everything else [])]


def build(root: Path = ROOT, *, everything: bool = False) -> Path:
    """Build the site and return its folder.

    A build that failed is not built upon: Sphinx would not repeat the warnings of pages that it has read already.

    Args:
        root: the repository, or a copy of its book/ and chapters/.
        everything: build every page again, not only those that changed.
    Raises:
        RuntimeError: Sphinx warned or failed; the message holds what it said.
    """
    output = root / "book" / "_build"
    output.mkdir(exist_ok=True)
    lines: list[str] = []
    with FileLock(output / ".lock", timeout=TIME_LIMIT):
        process = subprocess.Popen(
            command(root, everything=everything),
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        for line in process.stdout:  # universal newlines: Sphinx's carriage returns end lines too
            lines.append(re.sub(r"\x1b\[[0-9;]*m", "", line.rstrip()))
            show_progress(lines[-1])
        show_progress("")
        if process.wait(timeout=TIME_LIMIT) != 0:
            shutil.rmtree(output / ".doctrees", ignore_errors=True)
            said = [line for line in lines if re.search(r"WARNING|ERROR|CRITICAL|Error", line)]
            raise RuntimeError("\n".join(said or lines[-30:]))
    return output / "html"


def show_progress(line: str) -> None:
    """Rewrite one line of the screen with Sphinx's progress; say nothing where there is no screen."""
    match = PROGRESS.match(line)
    if sys.stderr.isatty() and (match or not line):
        text = f"{match[1]} {match[2]:>3} % {match[3]}" if match else ""
        print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0 when all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-data", action="store_true", help="do not get the data that the chapters name")
    parser.add_argument("--all", action="store_true", help="build every page again")
    parser.add_argument("--serve", action="store_true", help="serve the site afterwards and open it in a browser")
    parser.add_argument("--port", type=int, default=8000, help="the port for --serve (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not options.no_data:
        fetch = subprocess.run([sys.executable, str(ROOT / "chapters" / "build.py"), "--fetch"], check=False)
        if fetch.returncode != 0:
            print(
                "The data could not be had; `python book/build.py --no-data` builds the pages alone.", file=sys.stderr
            )
            return fetch.returncode
    start = time.perf_counter()
    try:
        site = build(everything=options.all)
    except RuntimeError as error:
        print(f"{error}\n\nThe site was not built: the lines above say why.", file=sys.stderr)
        return 1
    print(f"The site is built ({time.perf_counter() - start:.0f} s): {site / 'index.html'}")
    if options.serve:
        from serve import serve

        return serve(site, port=options.port)
    print("Read it with `make serve` (or `python book/serve.py`), which the search needs.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
