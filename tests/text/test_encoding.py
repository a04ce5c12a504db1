"""Bytes that are no text, and strings that are none: found with their place, or replaced and counted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.text.encoding import Decoded, decode_text, mend_surrogates, read_text


class TestDecode:
    def test_by_hand(self):
        assert decode_text("中文\r\n".encode()) == ("中文\r\n", 0)
        assert decode_text(b"") == ("", 0)
        assert decode_text(b"\xef\xbb\xbfmark") == ("mark", 0)
        assert decode_text("mark".encode("utf-16")[2:], encoding="utf-16-le") == ("mark", 0)
        assert decode_text("中".encode("gbk"), encoding="gbk") == ("中", 0)
        assert decode_text(bytearray(b"abc")) == decode_text(memoryview(b"abc")) == ("abc", 0)

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"a\xffb", ("a\ufffdb", 1)),
            (b"\xff\xfe", ("\ufffd\ufffd", 2)),
            ("中".encode()[:2], ("\ufffd", 1)),  # a character cut short is one place
            ("\ufffd".encode() + b"\xff", ("\ufffd\ufffd", 1)),  # the first came with the file
            (b"\xed\xa0\xbd", ("\ufffd\ufffd\ufffd", 3)),  # half a surrogate pair is not UTF-8
            (b"valid", ("valid", 0)),
        ],
    )
    def test_replace_counts(self, data, expected):
        assert decode_text(data, errors="replace") == expected

    @given(st.binary(max_size=40))
    def test_replacing_is_pythons_and_strict_agrees(self, data):
        found = decode_text(data, errors="replace")
        assert found.text == data.decode("utf-8", "replace").removeprefix("\ufeff")
        if found.replaced:
            with pytest.raises(ValueError, match="is not utf-8"):
                decode_text(data)
        else:
            assert decode_text(data) == found

    @given(st.text(max_size=30), st.integers(0, 99))
    def test_the_offset_is_right(self, text, place):
        start = text.encode("utf-8")
        with pytest.raises(ValueError, match=rf"byte 0xff at offset {len(start)} of {len(start) + 3} "):
            decode_text(start + b"\xffab")

    def test_a_file(self, tmp_path):
        path = tmp_path / "page.txt"
        path.write_bytes(b"one\r\ntwo\xe9")
        assert read_text(path, encoding="latin-1") == ("one\r\ntwoé", 0)
        assert read_text(str(path), errors="replace").replaced == 1
        with pytest.raises(ValueError, match=r"page\.txt: data is not utf-8: byte 0xe9 at offset 8 of 9"):
            read_text(path)
        with pytest.raises(FileNotFoundError):
            read_text(tmp_path / "none.txt")

    def test_errors(self):
        with pytest.raises(TypeError, match="data must be bytes, got str"):
            decode_text("text")
        for function, argument in ((decode_text, b"x"), (mend_surrogates, "x")):
            with pytest.raises(ValueError, match="errors is 'ignore'; allowed are strict, replace"):
                function(argument, errors="ignore")
        with pytest.raises(LookupError):
            decode_text(b"x", encoding="klingon")


class TestSurrogates:
    def test_by_hand(self):
        assert mend_surrogates("a\ud83d\ude00b") == Decoded("a😀b", 0)
        assert mend_surrogates("\ud83d", errors="replace") == ("\ufffd", 1)
        assert mend_surrogates("\ude00\ud83d!", errors="replace") == ("\ufffd\ufffd!", 2)  # the wrong way round
        assert mend_surrogates("\ufffd", errors="replace") == ("\ufffd", 0)

    def test_json_that_was_cut(self):
        whole = json.dumps("tea 😀")  # two escapes for one face
        assert mend_surrogates(json.loads(whole[:-7] + '"'), errors="replace") == ("tea \ufffd", 1)
        with pytest.raises(ValueError, match=r"half a surrogate pair, U\+D83D, at position 4 \(1 in all\)"):
            mend_surrogates(json.loads(whole[:-7] + '"'))

    @given(st.text(st.characters(), max_size=20), st.lists(st.sampled_from("\ud800\udbff\udc00\udfff"), max_size=3))
    def test_the_result_can_be_written(self, text, halves):
        found = mend_surrogates(text + "".join(halves), errors="replace")
        found.text.encode("utf-8")
        assert found.replaced <= len(halves)
        assert mend_surrogates(found.text) == (found.text, 0)
        if not halves:
            assert found == (text, 0)
