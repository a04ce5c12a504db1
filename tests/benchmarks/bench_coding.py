"""The arithmetic coder on the King James text, beside gzip, bzip2 and xz on the same file.

The model has read the World English Bible (order 5, characters). Its tables are timed apart from the coder: the first
encoding computes the table of each context that comes up, later ones find them. Decoding must give the text back.
"""

import bz2
import gzip
import lzma
import math
import time

from lmcore import data
from lmcore.classical.arithmetic_coding import decode, encode
from lmcore.classical.coding_models import RecentSymbols
from lmcore.classical.kneser_ney import KneserNeyArrays
from lmcore.text.vocab import EOS

ORDER = 5
PACKERS = {
    "gzip -9": (lambda raw: gzip.compress(raw, 9), gzip.decompress),
    "bzip2 -9": (lambda raw: bz2.compress(raw, 9), bz2.decompress),
    "xz -9e": (lambda raw: lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME), lzma.decompress),
}


def timed(function):
    """Call a function; return its result and the seconds it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def learning(text, alphabet, start, order=8):
    """Bytes of a model that starts from nothing: trained again whenever the text known has grown by half."""
    bits, known = start * math.log2(len(alphabet)), start
    while known < len(text):
        end = min(known * 3 // 2, len(text))
        model = KneserNeyArrays(order).fit([list(text[:known]), alphabet])
        logprobs = model.score([list(text[known - order + 1 : end])])
        bits, known = bits - logprobs[order - 1 : -1].sum() / math.log(2), end
    return bits / 8


def main():
    """Print bytes, seconds there and back, symbols per second, and the time in units of xz's."""
    text, other = ("".join(v.text + "\n" for v in data.load(name)) for name in ("king-james", "world-english"))
    raw = text.encode()
    rows = {}
    for name, (pack, unpack) in PACKERS.items():
        packed, there = timed(lambda pack=pack: pack(raw))
        back, again = timed(lambda unpack=unpack, packed=packed: unpack(packed))
        assert back == raw
        rows[name] = len(packed), there, again, len(raw)

    speller, training = timed(lambda: KneserNeyArrays(ORDER).fit([list(other), sorted(set(text))]))
    letters = speller.vocabulary_
    number = {letter: i for i, letter in enumerate(letters)}
    symbols = [*map(number.get, text), number[EOS]]
    model = RecentSymbols(lambda recent: speller.distribution([letters[i] for i in recent]), ORDER - 1)
    _, tables = timed(lambda: encode(symbols, model))
    code, there = timed(lambda: encode(symbols, model))
    back, again = timed(lambda: decode(code, model, end=number[EOS]))
    assert back == symbols
    bits = -speller.score([list(text)]).sum() / math.log(2)
    assert abs(8 * len(code) / bits - 1) < 0.001
    rows[f"coder, order {ORDER}"] = len(code), there, again, len(symbols)

    print(f"{len(text):,} characters, {len(raw):,} bytes; the model trains in {training:.1f} s on another text")
    print(f"its tables take {tables - there:.1f} s; code and cross-entropy differ by {8 * len(code) / bits - 1:+.4%}")
    print(f"{'':16} {'bytes':>10} {'bits/char':>9} {'there s':>8} {'back s':>8} {'symbols/s, both':>24} {'× xz':>12}")
    xz = rows["xz -9e"]
    for name, (size, there, again, n) in rows.items():
        speed = f"{n / there:12,.0f} {n / again:11,.0f}"
        ratio = f"{there / xz[1]:5.1f} {again / xz[2]:6.1f}"
        print(f"{name:16} {size:10,} {8 * size / len(text):9.3f} {there:8.2f} {again:8.2f} {speed:>24} {ratio:>12}")
    for start in (8_000, 10_000):
        size, seconds = timed(lambda start=start: learning(text, sorted(set(text)), start))
        print(f"order 8, learning from character {start:,}: {size:,.0f} bytes by cross-entropy, {seconds:.0f} s")


if __name__ == "__main__":
    main()
