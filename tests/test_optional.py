"""A missing optional dependency is named, with the command that brings it."""

import subprocess
import sys

import pytest

from lmcore.optional import need


def test_what_is_there_is_no_trouble():
    assert need("json", group="torch", by="a test") is None


def test_what_is_missing_is_named_with_the_remedy():
    with pytest.raises(ModuleNotFoundError, match=r"a test needs no_such_thing.*pip install 'lmcore\[torch\]'"):
        need("no_such_thing", group="torch", by="a test")


@pytest.mark.parametrize("part", ["nn", "models", "train"])
def test_parts_that_need_torch_say_so(part):
    code = f"import sys; sys.modules['torch'] = None; import lmcore.{part}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert f"lmcore.{part} needs torch, which is not installed: python -m pip install 'lmcore[torch]'" in done.stderr
