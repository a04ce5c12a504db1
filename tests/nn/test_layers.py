"""Layers: numbers from paper, torch's layers by state dict and seed, training against evaluation, errors."""

import copy

import pytest
import torch

from lmcore.nn.layers import MLP, Activation, Dropout, Embedding, Linear

TORCH_ACTIVATIONS = {
    "sigmoid": torch.nn.Sigmoid,
    "tanh": torch.nn.Tanh,
    "relu": torch.nn.ReLU,
    "leaky_relu": torch.nn.LeakyReLU,
    "gelu": torch.nn.GELU,
    "silu": torch.nn.SiLU,
    "softplus": torch.nn.Softplus,
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def assert_same(ours, theirs, x):
    """Equal outputs and gradients of all parameters."""
    y, t = ours(x), theirs(x)
    torch.testing.assert_close(y, t)
    weights = torch.randn(y.shape, generator=generator(1))
    (y * weights).sum().backward()
    (t * weights).sum().backward()
    for (name, p), (other, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(p.grad, q.grad)


def exchange(ours, theirs):
    """Load either's state dict into the other; afterwards both hold what torch's held."""
    mine = {name: value.clone() for name, value in ours.state_dict().items()}
    ours.load_state_dict(theirs.state_dict())
    back = copy.deepcopy(theirs)
    back.load_state_dict(mine)
    assert all(torch.equal(value, mine[name]) for name, value in back.state_dict().items())


# ---- hand-worked ----


def test_linear_by_hand():
    layer = Linear(2, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2], [3, 5], [7, 11]]))
        layer.bias.copy_(torch.tensor([0.5, 0, -1]))
    assert layer(torch.tensor([[1.0, 0], [2, -1]])).tolist() == [[1.5, 3, 6], [0.5, 1, 2]]


def test_embedding_is_a_product_with_one_hot_rows():
    layer = Embedding(7, 3, generator=generator())
    ids = torch.tensor([[5, 0], [5, 6]])
    one_hot = torch.nn.functional.one_hot(ids, 7).float()
    weight = layer.weight.detach().clone().requires_grad_()
    torch.testing.assert_close(layer(ids), one_hot @ weight)
    factors = torch.randn(2, 2, 3, generator=generator(1))
    (layer(ids) * factors).sum().backward()
    (one_hot @ weight * factors).sum().backward()
    torch.testing.assert_close(layer.weight.grad, weight.grad)


def test_repr_says_the_sizes():
    assert repr(Linear(5, 3, bias=False)) == "Linear(in_features=5, out_features=3, bias=False)"
    assert repr(Embedding(5, 3)) == "Embedding(num_embeddings=5, embedding_dim=3)"
    assert repr(Dropout(0.25)) == "Dropout(p=0.25)"
    assert repr(Activation("gelu")) == "Activation(gelu)"


# ---- oracle: torch ----


@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_torch(bias):
    torch.manual_seed(3)
    theirs, ours = torch.nn.Linear(7, 5, bias=bias), Linear(7, 5, bias=bias, generator=generator(3))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)  # the same numbers, not only of the same size
    exchange(ours, torch.nn.Linear(7, 5, bias=bias))
    exchange(ours, theirs)
    x = torch.randn(3, 11, 7, generator=generator())
    assert_same(ours, theirs, x)
    expected = x @ ours.weight.T + (ours.bias if bias else 0)
    torch.testing.assert_close(ours(x), expected)


def test_embedding_equals_torch():
    torch.manual_seed(3)
    theirs, ours = torch.nn.Embedding(7, 5), Embedding(7, 5, generator=generator(3))
    assert torch.equal(ours.weight, theirs.weight)
    theirs = torch.nn.Embedding(7, 5)
    exchange(ours, theirs)
    assert_same(ours, theirs, torch.tensor([[1, 6, 6], [0, 1, 6]]))
    assert torch.equal(ours(torch.tensor([6, 0], dtype=torch.uint8)), ours.weight[[6, 0]])


@pytest.mark.parametrize("activation", TORCH_ACTIVATIONS)
@pytest.mark.parametrize("sizes", [[7, 3], [7, 11, 3], [7, 13, 11, 3]])
def test_mlp_equals_torch(activation, sizes):
    theirs = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        theirs += [torch.nn.Linear(n_in, n_out), TORCH_ACTIVATIONS[activation]()]
    ours, theirs = MLP(sizes, activation=activation), torch.nn.Sequential(*theirs[:-1])
    exchange(ours, theirs)
    assert_same(ours, theirs, torch.randn(17, 7, generator=generator()))


def test_mlp_with_dropout_equals_torch():
    ours = MLP([7, 31, 3], activation="tanh", dropout=0.4)
    theirs = torch.nn.Sequential(torch.nn.Linear(7, 31), torch.nn.Tanh(), torch.nn.Dropout(0.4), torch.nn.Linear(31, 3))
    exchange(ours, theirs)
    x = torch.randn(17, 7, generator=generator())
    torch.manual_seed(5)
    y = ours(x)
    torch.manual_seed(5)
    torch.testing.assert_close(y, theirs(x))
    assert_same(ours.eval(), theirs.eval(), x)
    assert not torch.allclose(ours(x), y)


# ---- properties ----


def test_the_generator_decides_alone():
    state = torch.get_rng_state()
    make = [
        lambda seed: MLP([7, 5, 3], dropout=0.5, generator=generator(seed)),
        lambda seed: Embedding(7, 3, generator=generator(seed)),
    ]
    for build in make:
        a, b, c = (torch.cat([p.flatten() for p in build(seed).parameters()]) for seed in (1, 1, 2))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    layer = make[0](1)
    first = copy.deepcopy(layer.state_dict())
    layer.reset_parameters(generator(2))
    assert not torch.equal(layer[0].weight, first["0.weight"])
    layer.reset_parameters(generator(1))
    assert all(torch.equal(value, first[name]) for name, value in layer.state_dict().items())
    layer(torch.ones(2, 7))
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_is_off_in_evaluation():
    layer, x = Dropout(0.5, generator=generator()), torch.ones(101)
    assert set(layer(x).tolist()) == {0.0, 2.0}
    assert layer.eval()(x) is x
    assert set(layer.train()(x).tolist()) == {0.0, 2.0}


def test_a_part_of_an_mlp_shares_its_parameters():
    mlp, x = MLP([7, 5, 3]), torch.randn(2, 7, generator=generator())
    assert mlp[:2][0].weight is mlp[0].weight
    torch.testing.assert_close(mlp[2](mlp[:2](x)), mlp(x))
    assert mlp[-1] is mlp[2]


# ---- errors ----


def test_wrong_sizes():
    for sizes, name in [((0, 3), "in_features"), ((3, -1), "out_features"), ((3, 2.0), "out_features")]:
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got"):
            Linear(*sizes)
    with pytest.raises(ValueError, match="embedding_dim must be a whole number of at least 1, got 0"):
        Embedding(3, 0)
    with pytest.raises(ValueError, match=r"sizes must name an input and an output at least, got \[7\]"):
        MLP([7])
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\), got 1.0"):
        Dropout(1.0)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\), got -0.5"):
        MLP([7, 3], dropout=-0.5)
    with pytest.raises(ValueError, match=r"name must be one of .*relu.*, got 'ReLU'"):
        MLP([7, 3], activation="ReLU")


def test_wrong_inputs():
    with pytest.raises(ValueError, match=r"x has shape \(5, 3\), but must end in in_features = 7"):
        Linear(7, 5)(torch.ones(5, 3))
    with pytest.raises(ValueError, match="in_features = 7"):
        Linear(7, 5)(torch.tensor(1.0))
    table = Embedding(7, 3)
    with pytest.raises(ValueError, match=r"id 7 at \[1, 0\] is outside 0 … 6: the vocabulary has 7 ids"):
        table(torch.tensor([[0, 6], [7, 9]]))
    with pytest.raises(ValueError, match=r"id -1 at \[0\] is outside"):
        table(torch.tensor([-1]))
    with pytest.raises(ValueError, match=r"ids must be whole numbers, got torch\.float32"):
        table(torch.tensor([1.0]))
    with pytest.raises(ValueError, match=r"ids must be whole numbers, got torch\.bool"):
        table(torch.tensor([True]))
