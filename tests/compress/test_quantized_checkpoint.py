"""Quantised models in files: bit-identical again, small, and refused by other models with all names."""

import pytest
import torch
from safetensors import safe_open

from lmcore.compress.affine import Scheme
from lmcore.compress.checkpoint import load_quantized, save_quantized
from lmcore.compress.qat import convert, prepare
from lmcore.compress.replace import quantize_dynamic, quantize_weights, stored_bytes
from lmcore.compress.static import quantize_static
from lmcore.models.bert import BERTConfig, BERTForPretraining
from lmcore.models.gpt import GPT, GPTConfig
from lmcore.train import checkpoint
from lmcore.train.checkpoint import CheckpointError

FREE = Scheme(bits=4, symmetric=False, per="group", group_size=4, exact_zero=False)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ids(*shape):
    return torch.randint(0, 11, shape, generator=generator())


def gpt(seed=0, *, device=None, **options):
    sizes = dict(vocabulary_size=11, context=13, d_model=12, layers=2, heads=3)
    return GPT(GPTConfig.gpt2(**(sizes | options)), generator=generator(seed), device=device)


def llama(seed=0):
    sizes = dict(vocabulary_size=11, context=13, d_model=12, d_ff=20, layers=1, heads=3, kv_heads=1)
    return GPT(GPTConfig.llama(**sizes), generator=generator(seed))


def shared_bert(seed=0):
    config = BERTConfig.standard(vocabulary_size=11, d_model=12, layers=2, heads=3, shared=True)
    return BERTForPretraining(config, generator=generator(seed)).eval()


WAYS = {
    "8 bits": lambda m: quantize_weights(m, Scheme()),
    "3 bits": lambda m: quantize_weights(m, Scheme(bits=3, symmetric=False)),
    "groups": lambda m: quantize_weights(m, FREE),
    "dynamic": quantize_dynamic,
    "static": lambda m: quantize_static(m, [ids(80, 13)] * 8, method="min-max"),
    "some": lambda m: quantize_weights(m, Scheme(bits=2), names=["decoder.layers.0.self_attention.in_proj", "output"]),
    "aware": lambda m: convert(prepare(m, Scheme(bits=4))),
}


def assert_same(one, other, batch):
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert value.dtype == states[1][name].dtype
        assert torch.equal(value, states[1][name]), name
    with torch.no_grad():
        before, after = one(batch), other(batch)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert repr(one) == repr(other)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [gpt, llama])
def test_comes_back_bit_for_bit(make, way, tmp_path):
    quantized = WAYS[way](make())
    save_quantized(tmp_path / "model.safetensors", quantized)
    blank = make(seed=1)
    before = {name: value.clone() for name, value in blank.state_dict().items()}
    assert_same(quantized, load_quantized(tmp_path / "model.safetensors", blank), ids(2, 7))
    assert all(torch.equal(value, before[name]) for name, value in blank.state_dict().items())


def test_shared_layers_and_tied_tables_come_back_as_such(tmp_path):
    quantized = quantize_weights(shared_bert(), Scheme(bits=4))
    save_quantized(tmp_path / "model", quantized)
    loaded = load_quantized(tmp_path / "model", shared_bert(seed=1))
    assert_same(quantized, loaded, ids(2, 7))
    assert loaded.bert.encoder.layers[0] is loaded.bert.encoder.layers[1]
    assert loaded.mlm.table is loaded.bert.tokens.weight
    assert (tmp_path / "model").stat().st_size < stored_bytes(quantized) + 20_000  # once, and a header


def test_into_a_model_without_memory(tmp_path):
    quantized = quantize_weights(gpt(), Scheme(bits=4))
    save_quantized(tmp_path / "model", quantized)
    loaded = load_quantized(tmp_path / "model", gpt(device="meta"))
    assert_same(quantized, loaded, ids(2, 7))
    assert loaded.output.weight is loaded.embedding.weight


def test_the_file_is_small_and_its_codes_are_packed(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(512, 512))
    save_quantized(tmp_path / "model", quantize_weights(model, Scheme(bits=4)))
    with safe_open(tmp_path / "model", "pt") as file:
        assert file.get_tensor("/weights/0.packed").shape == (512, 256)
    assert (tmp_path / "model").stat().st_size < 512 * 256 + 2 * 512 * 4 + 2_000


# ---- errors ----


def test_the_wrong_model_is_refused_with_all_names(tmp_path):
    save_quantized(tmp_path / "model", quantize_weights(gpt(), Scheme()))
    with pytest.raises(CheckpointError) as error:
        load_quantized(tmp_path / "model", gpt(layers=1))
    for part in ("self_attention.in_proj", "self_attention.out_proj", "feed_forward.up", "feed_forward.down"):
        assert f"decoder.layers.1.{part} is no matrix of the model" in str(error.value)
    with pytest.raises(CheckpointError) as error:
        load_quantized(tmp_path / "model", gpt(d_model=6))
    assert "of another model than this GPT" in str(error.value)
    assert "decoder.layers.0.self_attention.in_proj is (36, 12), the model has (18, 6)" in str(error.value)
    assert str(error.value).count("the model has") == 8
    with pytest.raises(CheckpointError, match=r"layers.0.self_attention.out_proj has a bias, unlike the model's"):
        load_quantized(tmp_path / "model", llama())
    with pytest.raises(
        ValueError, match=r"Missing: .*decoder.layers.2.self_attention.in_proj_weight.*layers.2.feed_forward"
    ):
        load_quantized(tmp_path / "model", gpt(layers=3))
    with pytest.raises(ValueError, match=r"Misshapen: positions.weight is \(13, 12\), must be \(17, 12\)"):
        load_quantized(tmp_path / "model", gpt(context=17))


def test_files_of_another_kind(tmp_path):
    with pytest.raises(ValueError, match="Sequential has no compressed layer \\(quantising returns a copy\\)"):
        save_quantized(tmp_path / "model", torch.nn.Sequential(torch.nn.Linear(3, 2)))
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        load_quantized(tmp_path / "model", gpt())
    checkpoint.save(tmp_path / "model", {"weights": gpt().state_dict()})
    with pytest.raises(CheckpointError, match="is a checkpoint, but not of a quantised model"):
        load_quantized(tmp_path / "model", gpt())


def test_a_damaged_file(tmp_path):
    save_quantized(tmp_path / "model", quantize_weights(gpt(), Scheme()))
    raw = bytearray((tmp_path / "model").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "model").write_bytes(raw)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_quantized(tmp_path / "model", gpt())


def test_an_older_file_stays_until_the_new_one_is_complete(tmp_path, monkeypatch):
    quantized = quantize_weights(gpt(), Scheme())
    save_quantized(tmp_path / "model", quantized)

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint.os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        save_quantized(tmp_path / "model", quantize_weights(gpt(seed=5), Scheme()))
    monkeypatch.undo()
    assert_same(quantized, load_quantized(tmp_path / "model", gpt(seed=1)), ids(2, 7))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_kind_of_layer_that_is_not_known(tmp_path):
    quantized = quantize_weights(torch.nn.Sequential(torch.nn.Linear(3, 2)), Scheme())
    layers = {"0": {"kind": "TernaryLinear", "shape": [2, 3]}}
    state = {"format": "lmcore quantised model 1", "layers": layers, "weights": quantized.state_dict()}
    checkpoint.save(tmp_path / "model", state)
    with pytest.raises(CheckpointError, match="0 is a TernaryLinear, whose class has not been imported"):
        load_quantized(tmp_path / "model", torch.nn.Sequential(torch.nn.Linear(3, 2)))
