"""Make strings that mean the same be the same: Unicode form, quotation marks, white space."""

import re
import unicodedata

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
STRAIGHT = str.maketrans({"‘": "'", "’": "'", "‚": "'", "‛": "'", "“": '"', "”": '"', "„": '"', "‟": '"'})


def normalize(text: str, *, form: str = "NFC", straighten_quotes: bool = False, lowercase: bool = False) -> str:
    r"""Bring a text into one Unicode form and its white space into one shape.

    Runs of spaces and tabs become one space, runs of blank lines one, and no line keeps outer spaces.

    Args:
        text: any string.
        form: "NFC" composes letters and accents; "NFKC" also replaces look-alikes (ﬁ → fi, ² → 2), which loses what
            they meant; "NFD" and "NFKD" decompose instead.
        straighten_quotes: curly quotation marks and apostrophes become ' and ".
        lowercase: fold case (str.lower, which keeps letters such as ß that casefold would replace).
    Returns:
        The normalised text; normalising it again changes nothing.
    Raises:
        ValueError: an unknown form.
    Source: Unicode Standard Annex 15.

    >>> normalize("cafe\u0301  au   lait ") == "café au lait"
    True
    >>> normalize("“God’s”", straighten_quotes=True)
    '"God\'s"'
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; allowed are {', '.join(FORMS)}")
    text = unicodedata.normalize(form, text)
    if lowercase:  # and once more the form: J̌ has no composed capital, but ǰ is one character
        text = unicodedata.normalize(form, text.lower())
    if straighten_quotes:
        text = text.translate(STRAIGHT)
    text = re.sub(r"\r\n?|[\u2028\u2029]", "\n", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
