"""Fixed grids from calibration: against the model, against onnxruntime, data that are too few or unlike, errors."""

import warnings

import pytest
import torch

from lmcore.compress.affine import Grid, Scheme
from lmcore.compress.calibration import METHODS
from lmcore.compress.linear import QuantizedLinear
from lmcore.compress.static import activation_grids, calibrate, clipped_shares, quantize_static
from lmcore.models.bert import BERTConfig, BERTForPretraining
from lmcore.models.gpt import GPT, GPTConfig


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed))


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(7, 13), torch.nn.ReLU(), torch.nn.Linear(13, 3))


def batches(n=60):
    return [normal(50, 7, seed=seed) for seed in range(n)]


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantize_static(*args, **options)


def test_grids_by_hand():
    model = torch.nn.Sequential(torch.nn.Linear(2, 1))
    histograms = calibrate(model, [torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 5.65]])])
    with pytest.warns(UserWarning, match="fewer than 4,096 numbers, .* with 8 bits should see: '0' on 4 in 2 batches"):
        grid = activation_grids(histograms, Scheme(per="tensor", symmetric=False), "min-max")["0"]
    assert grid.scale.item() == pytest.approx(0.03)  # −2 … 5.65 in 255 steps
    assert grid.zero_point.item() == 67


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_near_the_model(method):
    model, x = network(), normal(101, 7, seed=99)
    quantized = quantize_static(model, batches(), method=method, share=0.9995)
    assert all(isinstance(quantized[i].activations, Grid) for i in (0, 2))
    error = (quantized(x) - model(x)).norm() / model(x).norm()
    assert 0 < error < 0.03


@torch.no_grad()
def test_after_relu_all_codes_are_used():
    quantized = quantize_static(network(), batches(), method="min-max")
    grid = quantized[2].activations
    assert grid.zero_point.item() == 0
    assert quantized[0].activations.zero_point.item() > 100


@torch.no_grad()
def test_a_gpt_with_its_packed_projections():
    config = GPTConfig.gpt2(vocabulary_size=11, context=13, d_model=12, layers=2, heads=3)
    model = GPT(config, generator=generator())
    ids = torch.randint(0, 11, (40, 13), generator=generator())
    quantized = quantize_static(model, ids.split(8), method="min-max")
    layers = [m for m in quantized.modules() if isinstance(m, QuantizedLinear)]
    assert len(layers) == 8
    assert all(isinstance(layer.activations, Grid) for layer in layers)
    before, after = model(ids), quantized(ids)
    assert 0 < (after - before).norm() < 0.05 * before.norm()
    shares = clipped_shares(quantized, ids.split(8))
    assert set(shares.values()) == {0.0}  # min–max cuts off nothing of its own data
    assert "decoder.layers.1.self_attention.in_proj" in shares


def test_layers_that_no_batch_reaches_stay_and_are_named():
    config = BERTConfig.standard(vocabulary_size=11, d_model=12, layers=1, heads=3)
    model = BERTForPretraining(config, generator=generator()).eval()
    ids = torch.randint(0, 11, (40, 13), generator=generator())
    model.forward = lambda ids: model.bert(ids)  # neither pooler nor heads
    with pytest.warns(
        UserWarning, match=r"no batch has reached bert.pooler, mlm.dense, nsp: their inputs have no range, they"
    ):
        quantized = quantize_static(model, [ids], method="min-max")
    assert not isinstance(quantized.nsp, QuantizedLinear)
    assert isinstance(quantized.bert.encoder.layers[0].feed_forward.up, QuantizedLinear)
    with pytest.raises(ValueError, match="no batch has reached nsp: their inputs have no range"):
        quantize_static(model, [ids], method="min-max", names=["nsp"])


@torch.no_grad()
def test_same_as_onnxruntime_with_the_same_numbers(tmp_path):
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper, save

    model, x = torch.nn.Sequential(torch.nn.Linear(7, 5, bias=False)), normal(11, 7)
    ours = quiet(model, [x], method="min-max")
    layer = ours[0]
    grid, weight = layer.activations, layer.quantized()
    tensors = {
        "x_scale": grid.scale.numpy(),
        "x_zero": grid.zero_point.numpy().astype(np.uint8),
        "w": weight.codes.T.contiguous().numpy(),
        "w_zero": np.int8(0),
        "scale": (grid.scale * weight.scale[:, 0]).numpy(),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["codes"]),
        helper.make_node("MatMulInteger", ["codes", "w", "x_zero", "w_zero"], ["total"]),
        helper.make_node("Cast", ["total"], ["sum"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["sum", "scale"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [11, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [11, 5])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    save(whole, tmp_path / "linear.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "linear.onnx", providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(ours(x).numpy(), theirs, rtol=1e-5, atol=1e-6)


# ---- data that are too few, or unlike ----


def test_too_few_data():
    with pytest.warns(
        UserWarning, match=r"2 of 2 matrices are calibrated on fewer than 100,000 numbers, which percentile"
    ):
        quantize_static(network(), batches(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantize_static(network(), batches(), method="mse")


def test_unlike_data():
    quantized = quantize_static(network(), batches(), method="percentile", share=0.9995)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        like = clipped_shares(quantized, batches(3))
    assert all(0 <= share < 0.002 for share in like.values())
    with pytest.warns(
        UserWarning, match=r"2 of 2 layers cut off more than 1.0% of their inputs, '0' [5-9]\d.\d%: was the"
    ):
        unlike = clipped_shares(quantized, [10 * batch for batch in batches(3)])
    assert unlike["0"] > 0.5


def test_shares_by_hand():
    scheme = Scheme(per="tensor")
    batch = torch.tensor([-1.0, 0.0, 0.5, 1.0])
    quantized = quiet(torch.nn.Linear(4, 3), [batch], activations=scheme, method="min-max")
    x = torch.tensor([[1.003, -1.003, 1.005, -1.005], [0.0, 0.0, 0.0, 9.0]])  # half a step is 1 / 254 = 0.0039
    assert clipped_shares(quantized, [x[:1], x[1:]], limit=1.0) == {"": 3 / 8}
    assert not quantized._forward_pre_hooks


# ---- errors ----


def test_errors():
    with pytest.raises(ValueError, match="fixed grids for activations must be per \"tensor\", got 'row'"):
        quantize_static(network(), batches(1), activations=Scheme())
    with pytest.raises(ValueError, match="method must be one of"):
        quiet(network(), batches(1), method="max")
    with pytest.raises(ValueError, match="batches is empty"):
        quantize_static(network(), [])
    with pytest.raises(ValueError, match="none of 0 layers with a fixed grid was reached by a batch"):
        clipped_shares(network(), batches(1))
    with pytest.raises(ValueError, match=r"^0: quantised activations need a weight with one grid per row"):
        quiet(network(), batches(1), scheme=Scheme(per="group", group_size=1))
