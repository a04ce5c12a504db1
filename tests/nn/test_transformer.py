"""The Transformer: torch's layers and stacks with all gradients, step by step, properties, errors."""

import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.nn.masks import causal_mask, padding_mask
from lmcore.nn.positional import RotaryPositions, alibi_bias
from lmcore.nn.transformer import Decoder, DecoderBlock, Encoder, EncoderBlock, FeedForward, TransformerConfig
from lmcore.nn.transformer_weights import from_torch, to_torch

B, T, S, HEADS, D, FF = 2, 5, 7, 3, 4, 13
MODEL = HEADS * D
KEYS, MEMORY = padding_mask([3, T], T), padding_mask([S, 2], S)
STYLES = [
    (order, activation, bias) for order in ("pre", "post") for activation in ("relu", "gelu") for bias in (True, False)
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed))


def config(**options):
    return TransformerConfig(**({"d_model": MODEL, "heads": HEADS, "d_ff": FF, "layers": 3} | options))


def torch_layer(kind, order, activation, bias, dropout=0.0):
    """A layer of torch's whose parameters all matter: no bias is 0, no norm's weight is 1."""
    layer = kind(
        MODEL,
        HEADS,
        FF,
        dropout,
        activation,
        batch_first=True,
        norm_first=order == "pre",
        bias=bias,
        layer_norm_eps=1e-3,
    )
    randomize(layer)
    return layer


def randomize(module):
    with torch.no_grad():
        for seed, p in enumerate(module.parameters()):
            p.add_(normal(*p.shape, seed=seed) / 2)


def assert_same(ours, theirs, run_ours, run_theirs, inputs):
    """Outputs, and the gradients of all inputs and parameters, agree: in double precision, to many digits."""
    ours, theirs = ours.double(), theirs.double()
    assert {name: tuple(p.shape) for name, p in to_torch(ours.state_dict()).items()} == {
        name: tuple(p.shape) for name, p in theirs.state_dict().items()
    }
    ours.load_state_dict(from_torch(theirs.state_dict()))
    results = []
    for module, run in ((ours, run_ours), (theirs, run_theirs)):
        tensors = [x.double().requires_grad_() for x in inputs]
        y = run(module, *tensors)
        (y * normal(*y.shape, seed=9)).sum().backward()
        named = {name: p.grad for name, p in module.named_parameters()}
        results.append((y, [x.grad for x in tensors], from_torch(named) if module is theirs else named))
    (y, gradients, named), (y2, gradients2, named2) = results
    torch.testing.assert_close(y, y2, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(gradients, gradients2, rtol=1e-9, atol=1e-10)
    assert named.keys() == named2.keys()
    for name, gradient in named.items():
        assert gradient.abs().max() > 0
        scale = max(1, float(named2[name].abs().max()))  # gradients of weights are sums over all positions
        torch.testing.assert_close(gradient / scale, named2[name] / scale, rtol=1e-9, atol=1e-10, msg=name)


# ---- hand-worked ----


def test_a_block_with_zero_weights_is_the_identity():
    x = normal(B, T, MODEL)
    for block in (EncoderBlock(config()), DecoderBlock(config(), cross_attention=False)):
        for p in block.parameters():
            torch.nn.init.zeros_(p)
        assert torch.equal(block(x), x)  # what a block adds is zero: the stream runs straight through


def test_feed_forward_by_hand():
    layer = FeedForward(TransformerConfig(d_model=1, heads=1, d_ff=2, layers=1))
    state = {"up.weight": [[1.0], [-2.0]], "up.bias": [0.0, 1.0], "down.weight": [[3.0, 5.0]], "down.bias": [0.5]}
    layer.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    # x = 2: hidden (2, −3), after relu (2, 0), 3 · 2 + ½; x = −1: hidden (−1, 3), after relu (0, 3), 5 · 3 + ½
    assert layer(torch.tensor([[2.0], [-1.0]])).tolist() == [[6.5], [15.5]]


def test_swiglu_by_formula():
    layer = FeedForward(config(activation="swiglu", bias=False), generator=generator())
    x = normal(B, T, MODEL)
    gate = x @ layer.gate.weight.T
    expected = (gate / (1 + torch.exp(-gate)) * (x @ layer.up.weight.T)) @ layer.down.weight.T
    torch.testing.assert_close(layer(x), expected)


def test_gelu_comes_in_two_forms():
    x = normal(B, T, MODEL)
    for activation, approximate in (("gelu", "none"), ("gelu_tanh", "tanh")):
        layer = FeedForward(config(activation=activation), generator=generator())
        hidden = torch.nn.functional.gelu(layer.up(x), approximate=approximate)
        torch.testing.assert_close(layer(x), layer.down(hidden), rtol=0, atol=1e-6)


def test_norms_are_what_the_configuration_says():
    x = normal(B, T, MODEL)
    for norm, kind in (("layer", torch.nn.LayerNorm), ("rms", torch.nn.RMSNorm)):
        encoder = Encoder(config(norm=norm, norm_eps=0.5), generator=generator())
        for p in encoder.layers.parameters():
            torch.nn.init.zeros_(p)  # only the last norm is left
        torch.testing.assert_close(encoder(x), kind(MODEL, eps=0.5)(x))


def test_orders_by_formula():
    x = normal(B, T, MODEL)
    for order in ("pre", "post"):
        block = EncoderBlock(config(order=order), generator=generator())
        f, g, n1, n2 = block.self_attention, block.feed_forward, block.self_attention_norm, block.feed_forward_norm
        if order == "pre":
            middle = x + f(n1(x))
            expected = middle + g(n2(middle))
        else:
            middle = n1(x + f(x))
            expected = n2(middle + g(middle))
        torch.testing.assert_close(block(x), expected)


# ---- oracle: torch ----


@pytest.mark.parametrize("style", STYLES, ids=lambda style: "-".join(map(str, style)))
@pytest.mark.parametrize("masked", [True, False])
def test_encoder_layer_equals_torch(style, masked):
    order, activation, bias = style
    theirs = torch_layer(torch.nn.TransformerEncoderLayer, *style)
    ours = EncoderBlock(config(order=order, activation=activation, bias=bias, norm_eps=1e-3))
    options = {"mask": KEYS} if masked else {}
    torch_options = {"src_key_padding_mask": ~KEYS[:, 0, 0]} if masked else {}
    assert_same(
        ours, theirs, lambda m, x: m(x, **options), lambda m, x: m(x, **torch_options), [normal(B, T, MODEL, seed=50)]
    )


@pytest.mark.parametrize("style", STYLES, ids=lambda style: "-".join(map(str, style)))
@pytest.mark.parametrize("masked", [True, False])
def test_decoder_layer_equals_torch(style, masked):
    order, activation, bias = style
    theirs = torch_layer(torch.nn.TransformerDecoderLayer, *style)
    ours = DecoderBlock(config(order=order, activation=activation, bias=bias, norm_eps=1e-3))
    options = {"mask": KEYS, "memory_mask": MEMORY} if masked else {}
    torch_options = {"tgt_mask": ~causal_mask(T)}
    if masked:
        torch_options |= {"tgt_key_padding_mask": ~KEYS[:, 0, 0], "memory_key_padding_mask": ~MEMORY[:, 0, 0]}
    assert_same(
        ours,
        theirs,
        lambda m, x, memory: m(x, memory, **options),
        lambda m, x, memory: m(x, memory, **torch_options),
        [normal(B, T, MODEL, seed=50), normal(B, S, MODEL, seed=51)],
    )


def test_decoder_block_without_memory_is_torchs_encoder_layer_with_a_causal_mask():
    theirs = torch_layer(torch.nn.TransformerEncoderLayer, "pre", "gelu", True)
    ours = DecoderBlock(config(activation="gelu", norm_eps=1e-3), cross_attention=False)
    assert_same(
        ours, theirs, lambda m, x: m(x), lambda m, x: m(x, src_mask=~causal_mask(T)), [normal(B, T, MODEL, seed=50)]
    )


@pytest.mark.parametrize("order", ["pre", "post"])
def test_stacks_equal_torch(order):
    last = torch.nn.LayerNorm(MODEL, eps=1e-3) if order == "pre" else None
    x, memory = normal(B, T, MODEL, seed=50), normal(B, S, MODEL, seed=51)
    layer = torch_layer(torch.nn.TransformerEncoderLayer, order, "gelu", True)
    theirs = torch.nn.TransformerEncoder(layer, 3, copy.deepcopy(last), enable_nested_tensor=False)
    randomize(theirs)
    ours = Encoder(config(order=order, activation="gelu", norm_eps=1e-3))
    assert_same(
        ours,
        theirs,
        lambda m, x: m(x, mask=KEYS),
        lambda m, x: m(x, src_key_padding_mask=~KEYS[:, 0, 0]),
        [x],
    )
    theirs = torch.nn.TransformerDecoder(torch_layer(torch.nn.TransformerDecoderLayer, order, "relu", True), 3, last)
    randomize(theirs)
    assert_same(
        Decoder(config(order=order, norm_eps=1e-3)),
        theirs,
        lambda m, x, memory: m(x, memory, memory_mask=MEMORY),
        lambda m, x, memory: m(x, memory, ~causal_mask(T), memory_key_padding_mask=~MEMORY[:, 0, 0]),
        [x, memory],
    )


@pytest.mark.parametrize("kind", [torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer])
def test_first_parameters_are_torchs(kind):
    torch.manual_seed(3)
    theirs = kind(MODEL, HEADS, FF)
    block = EncoderBlock if kind is torch.nn.TransformerEncoderLayer else DecoderBlock
    state = to_torch(block(config(), generator=generator(3)).state_dict())
    assert state.keys() == theirs.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in theirs.state_dict().items())


def test_names_go_there_and_back():
    for ours in (Encoder(config()), Decoder(config()), Decoder(config(), cross_attention=False)):
        state = {f"model.{name}": value for name, value in ours.state_dict().items()}
        assert "model.layers.2.norm2.weight" in to_torch(state)
        assert list(from_torch(to_torch(state))) == list(state)


# ---- step by step ----

VARIANTS = {
    "plain": {},
    "llama": {"norm": "rms", "activation": "swiglu", "bias": False, "kv_heads": 1},
    "post": {"order": "post", "activation": "gelu_tanh"},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("place", ["rotary", "alibi"])
@torch.no_grad()
def test_step_by_step_equals_all_at_once(options, cross, place):
    decoder = Decoder(config(**options), cross_attention=cross, generator=generator())
    x, memory = normal(B, T, MODEL), normal(B, S, MODEL, seed=1) if cross else None
    other = {"memory_mask": MEMORY} if cross else {}
    if place == "rotary":
        other["rotary"] = RotaryPositions(D, max_length=T)

    def run(x, length, cache=None):
        bias = {"bias": alibi_bias(HEADS, x.shape[1], length)} if place == "alibi" else {}
        return decoder(x, memory, cache=cache, **other, **bias)

    expected, cache = run(x, T), decoder.new_cache()
    for start, end in [(0, 2), (2, 3), (3, 5)]:
        torch.testing.assert_close(run(x[:, start:end], end, cache), expected[:, start:end], rtol=1e-5, atol=1e-5)
        assert cache.length == end


@torch.no_grad()
def test_beams_may_be_reordered():
    decoder = Decoder(config(), generator=generator())
    x, memory, rows = normal(3, T, MODEL), normal(3, S, MODEL, seed=1), torch.tensor([2, 0, 0, 2])
    cache = decoder.new_cache()
    cache.reorder(rows)  # an empty one has no rows yet
    decoder(x[:, :-1], memory, cache=cache)
    cache.reorder(rows)
    step = decoder(x[rows, -1:], memory[rows], cache=cache)
    torch.testing.assert_close(step, decoder(x, memory)[rows, -1:], rtol=1e-5, atol=1e-5)


# ---- properties ----


@settings(max_examples=20)
@given(st.integers(0, T - 1), st.sampled_from(list(VARIANTS)), st.booleans())
def test_a_decoder_does_not_see_what_comes_later(t, variant, cross):
    decoder = Decoder(config(**VARIANTS[variant]), cross_attention=cross, generator=generator())
    x, memory = normal(B, T, MODEL), (normal(B, S, MODEL),) if cross else ()
    before = decoder(x, *memory)
    x[:, t] += normal(MODEL, seed=2)
    after = decoder(x, *memory)
    assert torch.equal(before[:, :t], after[:, :t])
    assert (before[:, t:] != after[:, t:]).any(-1).all()


def test_padding_has_no_influence():
    encoder, x = Encoder(config(), generator=generator()), normal(B, T, MODEL)
    before = encoder(x, mask=KEYS)
    x[0, 3:] = 100
    after = encoder(x, mask=KEYS)
    torch.testing.assert_close(before[0, :3], after[0, :3])
    torch.testing.assert_close(before[1], after[1])
    torch.testing.assert_close(encoder(x[:1, :3])[0], after[0, :3], rtol=1e-5, atol=1e-5)


def test_an_encoder_without_positions_does_not_see_the_order():
    encoder, x, order = Encoder(config(), generator=generator()), normal(B, T, MODEL), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(encoder(x[:, order]), encoder(x)[:, order], rtol=1e-5, atol=1e-5)
    rotary = RotaryPositions(D, max_length=T)
    assert not torch.allclose(encoder(x[:, order], rotary=rotary), encoder(x, rotary=rotary)[:, order], atol=1e-3)


def test_weights_on_request():
    x, memory = normal(B, T, MODEL), normal(B, S, MODEL)
    for stack, arguments, keys in [
        (Encoder(config()), (x,), T),
        (Decoder(config(), cross_attention=False), (x,), T),
        (Decoder(config()), (x, memory), S),
    ]:
        y, weights = stack(*arguments, need_weights=True)
        torch.testing.assert_close(y, stack(*arguments))
        assert [tuple(w.shape) for w in weights] == [(B, HEADS, T, keys)] * 3
        torch.testing.assert_close(weights[1].sum(-1), torch.ones(B, HEADS, T))
        above = weights[1].triu(1)[..., :T]
        assert bool((above == 0).all()) == (stack.layers[0].cross_attention is None and isinstance(stack, Decoder))


def test_heads_of_keys_are_as_the_configuration_says():
    decoder = Decoder(config(kv_heads=1))
    for layer in decoder.layers:
        assert layer.self_attention.in_proj_weight.shape == layer.cross_attention.in_proj_weight.shape == (5 * D, MODEL)


def test_layers_differ_and_the_generator_decides_alone():
    state = torch.get_rng_state()
    options = config(dropout=0.3, activation="swiglu")
    first, second, third = (Decoder(options, generator=generator(seed)) for seed in (1, 1, 2))
    a, b, c = (torch.cat([p.flatten() for p in stack.parameters()]) for stack in (first, second, third))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    layers = first.layers
    assert not torch.equal(layers[0].feed_forward.up.weight, layers[1].feed_forward.up.weight)
    x, memory = normal(B, T, MODEL), normal(B, S, MODEL)
    y = first(x, memory)
    assert torch.equal(y, second(x, memory))
    assert not torch.equal(y, first(x, memory))  # dropout drops others
    assert torch.equal(first.eval()(x, memory), first(x, memory))
    assert torch.equal(torch.get_rng_state(), state)


def test_every_place_of_dropout():
    """With all weights of the sublayers but one switched off, training still differs from evaluation."""
    x = normal(B, T, MODEL)
    for place in ("self_attention.dropout", "feed_forward.dropout", "dropout"):
        block = EncoderBlock(config(dropout=0.5), generator=generator())
        for name, module in block.named_modules():
            if name.endswith("dropout") and name != place:
                module.p = 0.0
        assert not torch.allclose(block(x), block.eval()(x))


# ---- errors ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_model": 0}, "d_model must be a whole number of at least 1, got 0"),
        ({"d_ff": 1.5}, r"d_ff must be a whole number of at least 1, got 1\.5"),
        ({"layers": -1}, "layers must be"),
        ({"heads": None}, "heads must be a whole number of at least 1, got None"),
        ({"kv_heads": 0}, "kv_heads must be a whole number of at least 1, got 0"),
        ({"heads": 5}, "d_model = 12 must be a multiple of heads = 5"),
        ({"kv_heads": 2}, "heads = 3 must be a multiple of kv_heads = 2"),
        ({"dropout": 1}, r"dropout must be in \[0, 1\), got 1"),
        ({"norm_eps": -1}, "norm_eps must be at least 0, got -1"),
        ({"norm": "batch"}, "norm must be one of layer, rms, got 'batch'"),
        ({"order": "pre-norm"}, "order must be one of pre, post, got 'pre-norm'"),
        ({"activation": "swish"}, "activation must be one of relu, gelu, gelu_tanh, swiglu, got 'swish'"),
    ],
)
def test_wrong_configurations(options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_a_configuration_is_frozen_and_by_keyword():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().heads = 5
    with pytest.raises(TypeError):
        TransformerConfig(12, 3, 13, 3)


def test_wrong_inputs():
    x, memory = normal(B, T, MODEL), normal(B, S, MODEL)
    with pytest.raises(ValueError, match="this block has cross-attention, but memory is missing"):
        Decoder(config())(x)
    with pytest.raises(ValueError, match="this block has no cross-attention, but memory is there"):
        Decoder(config(), cross_attention=False)(x, memory)
    with pytest.raises(ValueError, match="cache is for 3 layers, the decoder has 2"):
        Decoder(config(layers=2))(x, memory, cache=Decoder(config()).new_cache())
    with pytest.raises(ValueError, match="The mask looks inverted"):
        Encoder(config())(x, mask=~KEYS)
    with pytest.raises(ValueError, match=r"x has shape \(2, 0, 12\)"):
        Encoder(config())(x[:, :0])
    with pytest.raises(TypeError, match="unexpected keyword argument 'maks'"):
        Encoder(config())(x, maks=KEYS)


def test_wrong_weights():
    with pytest.raises(ValueError, match=r"layers\.0\.feed_forward\.gate\.weight: torch's layers have no gate"):
        to_torch(Encoder(config(activation="swiglu")).state_dict())
    with pytest.raises(ValueError, match="q_proj_weight: attention with kdim or vdim"):
        from_torch(torch.nn.MultiheadAttention(MODEL, HEADS, kdim=5).state_dict())
