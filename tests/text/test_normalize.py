import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.text.normalize import FORMS, normalize


def test_by_hand():
    assert normalize("  In\tthe \r\n beginning\n\n\n\nGod  ") == "In the\nbeginning\n\nGod"
    assert normalize("ﬁ x²", form="NFKC") == "fi x2"
    assert normalize("ﬁ x²") == "ﬁ x²"
    assert normalize("“It’s”", straighten_quotes=True) == '"It\'s"'
    assert normalize("ÉCOLE", lowercase=True) == "école"
    assert normalize("J\u030c", lowercase=True) == "\u01f0"  # composed only as a small letter


@given(st.text(), st.sampled_from(FORMS))
def test_agrees_with_unicodedata_but_for_white_space(text, form):
    squeezed = "".join(unicodedata.normalize(form, text).split())
    assert "".join(normalize(text, form=form).split()) == squeezed


@given(st.text(), st.sampled_from(FORMS), st.booleans(), st.booleans())
def test_twice_is_once(text, form, quotes, lower):
    once = normalize(text, form=form, straighten_quotes=quotes, lowercase=lower)
    assert normalize(once, form=form, straighten_quotes=quotes, lowercase=lower) == once


def test_unknown_form():
    with pytest.raises(ValueError, match=r"form is 'nfc'; allowed are NFC, NFD, NFKC, NFKD"):
        normalize("x", form="nfc")
