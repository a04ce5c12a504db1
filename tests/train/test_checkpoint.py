"""Checkpoints: what goes in comes out; a file is whole or refused; an interrupted write loses nothing."""

import json
import math
import os
import struct

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lmcore.train import checkpoint
from lmcore.train.checkpoint import CheckpointError, check_model, load, save

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "run.safetensors"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (5, 7)], ids=str)
def test_tensors_come_back_bit_for_bit(path, dtype, shape):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul(100).abs().to(dtype)
    save(path, {"here": [tensor, tensor.t() if tensor.ndim == 2 else tensor]})
    back = load(path)["here"]
    assert back[0].dtype == dtype
    assert torch.equal(back[0], tensor)
    assert torch.equal(back[1], tensor.t() if tensor.ndim == 2 else tensor)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=3))
def test_everything_else_comes_back_too(tmp_path_factory, state):
    path = tmp_path_factory.mktemp("plain") / "state"
    save(path, state)
    assert load(path) == state


def test_numbers_that_json_does_not_know(path):
    save(path, {"inf": math.inf, "nan": math.nan, "text": "tensor:inf", "tuple": (1, 2)})
    back = load(path)
    assert back["inf"] == math.inf
    assert math.isnan(back["nan"])
    assert back["text"] == "tensor:inf"
    assert back["tuple"] == [1, 2]


def test_tied_weights_are_stored_once(path):
    model = nn.Sequential(nn.Embedding(97, 31), nn.Linear(31, 97, bias=False))
    model[1].weight = model[0].weight
    save(path, {"model": model.state_dict()})
    assert path.stat().st_size < 1.2 * 97 * 31 * 4
    weights = load(path)["model"]
    assert torch.equal(weights["0.weight"], model[0].weight)
    assert torch.equal(weights["1.weight"], model[0].weight)


def test_what_is_not_a_state(path):
    with pytest.raises(TypeError, match="the keys of /a must be strings, got 3"):
        save(path, {"a": {3: 1}})
    with pytest.raises(TypeError, match="/a/1 is a function, which a checkpoint cannot hold"):
        save(path, {"a": [1, lambda: 0]})
    assert not path.exists()


class TestDamage:
    @pytest.fixture
    def whole(self, path):
        save(path, {"weight": torch.arange(1000.0), "step": 7})
        return path.read_bytes()

    @pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 0.5, 0.999])
    def test_truncated(self, path, whole, keep):
        path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
        with pytest.raises(CheckpointError, match=r"run\.safetensors is truncated or no checkpoint.*use an older one"):
            load(path)

    def test_one_flipped_bit_in_the_weights(self, path, whole):
        path.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
        with pytest.raises(CheckpointError, match="is damaged"):
            load(path)

    def test_one_changed_number_beside_the_weights(self, path, whole):
        assert whole.count(b'\\"step\\": 7') == 1
        path.write_bytes(whole.replace(b'\\"step\\": 7', b'\\"step\\": 8'))
        with pytest.raises(CheckpointError, match="is damaged"):
            load(path)

    def test_a_header_that_promises_a_terabyte(self, path, whole):
        path.write_bytes(struct.pack("<Q", 2**40) + whole[8:])
        with pytest.raises(CheckpointError, match="truncated or no checkpoint"):
            load(path)

    def test_another_kind_of_file(self, path, whole):
        path.write_bytes(b"import os" * 100)
        with pytest.raises(CheckpointError, match="truncated or no checkpoint"):
            load(path)
        safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
        with pytest.raises(CheckpointError, match="no checkpoint of lmcore"):
            load(path)

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
            load(tmp_path / "nothing")


class TestInterruptedWrite:
    @pytest.mark.parametrize("where", ["safetensors.torch.save_file", "os.fsync", "os.replace"])
    def test_the_old_file_stays_and_nothing_is_left_over(self, path, monkeypatch, where):
        save(path, {"step": 1})
        monkeypatch.setattr(f"lmcore.train.checkpoint.{where}", lambda *a, **k: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            save(path, {"step": 2})
        monkeypatch.undo()
        assert load(path) == {"step": 1}
        assert os.listdir(path.parent) == [path.name]

    def test_what_a_killed_run_left_does_no_harm(self, path):
        save(path, {"step": 1})
        path.with_name(f".{path.name}.part").write_bytes(b"half")
        assert load(path) == {"step": 1}
        save(path, {"step": 2})
        assert load(path) == {"step": 2}
        assert os.listdir(path.parent) == [path.name]


class TestOtherModels:
    def message(self, model, other):
        with pytest.raises(CheckpointError) as caught:
            check_model(model, other.state_dict())
        return str(caught.value)

    def test_names_what_differs(self):
        model = nn.Linear(5, 7)
        check_model(model, nn.Linear(5, 7).state_dict())
        assert "bias is missing" in self.message(model, nn.Linear(5, 7, bias=False))
        assert "bias is unknown to this model" in self.message(nn.Linear(5, 7, bias=False), model)
        assert "weight is (5, 7) float32, the model has (7, 5) float32" in self.message(model, nn.Linear(7, 5))
        assert "weight is (7, 5) float64, the model has (7, 5) float32" in self.message(model, nn.Linear(5, 7).double())

    def test_a_long_list_is_cut(self):
        assert "(and 6 more)" in self.message(nn.Sequential(*[nn.Linear(2, 2) for _ in range(5)]), nn.Identity())


def test_the_file_is_a_plain_safetensors_file_that_others_can_read(path):
    save(path, {"model": {"weight": torch.ones(3)}, "step": 4})
    with safetensors.safe_open(path, "pt") as file:
        assert list(file.keys()) == ["/model/weight"]
        assert json.loads(file.metadata()["tree"])["step"] == 4
    assert checkpoint.load(path)["step"] == 4
