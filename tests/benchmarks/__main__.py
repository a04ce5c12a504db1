"""Run the benchmarks: python -m tests.benchmarks [WORD…], all of them or those whose name contains a word.

Each measures our code and its peer alternately in one run and quotes the ratio: absolute times belong to the machine.
"""

import importlib
import os
import platform
import sys
from pathlib import Path


def main(words: list[str]) -> int:
    """Run the benchmarks that the words choose."""
    names = [path.stem for path in sorted(Path(__file__).parent.glob("bench_*.py"))]
    chosen = [name for name in names if not words or any(word in name for word in words)]
    if not chosen:
        print(f"No benchmark matches {' '.join(words)}. There are: {', '.join(names)}.", file=sys.stderr)
        return 2
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs")
    for name in chosen:
        print(f"\n== {name.removeprefix('bench_')} ==", flush=True)
        importlib.import_module(f"tests.benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
