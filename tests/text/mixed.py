"""Ten thousand lines of English, Chinese, code and emoji, on which real tokenizers are compared."""

import random
import re
from functools import cache
from pathlib import Path

from lmcore import data

EMOJI = ["😀", "👩‍🔬", "🇳🇴", "👍🏽", "❤️", "ﬁ", "①", "½", "é", "e\u0301", "\u200b", "\u3000", "ß", "İ", "🏴‍☠️"]


SPECIAL = re.compile(r"<\|?/?\w+\|?>|\[[A-Z]+\]")  # <|endoftext|>, </s>, [MASK], …


@cache
def mixed_lines(count: int = 10_000) -> list[str]:
    """The same lines each time, one kind after another in turn."""
    generator = random.Random(7)
    english = [line for article in data.load("encyclopedia") for line in article.text.split("\n")]
    chinese = [review.text for review in data.load("chinese-reviews")]
    package = Path(__file__).resolve().parents[2] / "lmcore"
    code = [line for path in sorted(package.rglob("*.py")) for line in path.read_text(encoding="utf-8").split("\n")]
    code = [line for line in code if not SPECIAL.search(line)]  # forged special tokens have tests of their own
    lines = []
    for number in range(count):
        kind = number % 4
        if kind < 3:
            lines.append(generator.choice((english, chinese, code)[kind]))
        else:
            words = generator.choice(english).split()[:6] + generator.choices(EMOJI, k=4) + [str(number), "  x\t\ty "]
            generator.shuffle(words)
            lines.append(generator.choice(["", " ", "  "]).join(words))
    return lines
