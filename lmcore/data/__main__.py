"""The command line: `python -m lmcore.data list | fetch | verify | card`.

Exit code 0: done; 1: data missing, damaged or not to be had; 2: the command was not understood.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from . import Card, DataError, UnknownName, cache_folder, card, fetch, names, verify


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lmcore.data", description="Corpora and models of the book.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="what there is")
    one = commands.add_parser("card", help="show a data card")
    one.add_argument("names", nargs=1, metavar="NAME")
    get = commands.add_parser("fetch", help="download what is not in the cache")
    get.add_argument("names", nargs="*", metavar="NAME")
    get.add_argument("--all", action="store_true", help="everything, models too")
    check = commands.add_parser("verify", help="read the cache again and compare every SHA-256")
    check.add_argument("names", nargs="*", metavar="NAME", help="default: everything that is in the cache")
    for command in (get, check):
        command.add_argument("--cache", metavar="DIR", help="folder of the archives instead of LMCORE_CACHE")
    options = parser.parse_args(arguments)

    try:
        cards = [card(name) for name in getattr(options, "names", [])]
    except UnknownName as error:
        parser.error(str(error))
    if options.command == "fetch" and bool(cards) == options.all:
        parser.error("give either names or --all")
    if getattr(options, "cache", None):
        os.environ["LMCORE_CACHE"] = options.cache
    return _COMMANDS[options.command](cards)


def _list(cards: list[Card]) -> int:
    """One line per name."""
    for it in map(card, names()):
        download = f"{it.archive.size / 1e6:.1f} MB" if it.archive else "none"
        print(f"{it.name:14} {it.kind:11} {download:>9}  {it.title}")
    return 0


def _card(cards: list[Card]) -> int:
    """The data card."""
    print(cards[0])
    return 0


def _fetch(cards: list[Card]) -> int:
    """Fetch the named archives, or all; go on after a failure."""
    return _each(cards or map(card, names()), fetch)


def _verify(cards: list[Card]) -> int:
    """Verify the named archives, or those in the cache."""
    cards = cards or [it for it in map(card, names()) if it.archive and it.archive.path.exists()]
    if not cards:
        print(f"{cache_folder()} is empty: nothing to verify. Run: python -m lmcore.data fetch --all", file=sys.stderr)
        return 1
    return _each(cards, verify)


def _each(cards: Iterable[Card], action: Callable[[str], Path]) -> int:
    """Do it once for every archive; exit code 1 if one of them failed."""
    done, failed = {None}, 0
    for it in cards:
        if it.archive is None:
            print(f"{it.name}: part of Python, nothing to do")
        if it.archive in done:
            continue
        done.add(it.archive)
        print(f"{it.name}: {action.__name__} {it.archive.file} ({it.archive.size / 1e6:.1f} MB) …", flush=True)
        try:
            print(f"{it.name}: good, {action(it.name)}")
        except DataError as error:
            failed = 1
            print(f"{it.name}: {error}", file=sys.stderr)
    return failed


_COMMANDS = {"list": _list, "card": _card, "fetch": _fetch, "verify": _verify}

if __name__ == "__main__":
    sys.exit(main())
