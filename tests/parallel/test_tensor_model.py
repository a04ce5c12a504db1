"""Whole models of chapters 12 to 14 on 2 and 4 ranks: the same losses, gradients, norms and weights as on one."""

import copy
import functools

import pytest
import torch

from lmcore.models.bert import BERTConfig, BERTForPretraining
from lmcore.models.gpt import GPT, GPTConfig
from lmcore.models.seq2seq_transformer import TransformerSeq2Seq, TransformerSeq2SeqConfig
from lmcore.nn.functional import cross_entropy
from lmcore.nn.layers import Dropout
from lmcore.nn.multihead import MultiHeadAttention
from lmcore.nn.transformer import EncoderBlock, TransformerConfig
from lmcore.parallel.launch import run
from lmcore.parallel.tensor_model import parallelize
from lmcore.parallel.tensor_operators import join_parts, keep_part
from lmcore.parallel.tensor_split import merge_states, tensor_plan
from lmcore.parallel.tensor_traffic import gpt_traffic, layers_traffic
from lmcore.parallel.tensor_vocabulary import gather_scores, vocabulary_parallel_cross_entropy
from lmcore.parallel.traffic import Traffic
from lmcore.train.optim import SGD, AdamW

pytestmark = pytest.mark.timeout(180)


def loss_of(scores, targets, group, **options):
    """The loss on one process, or on many."""
    if group is None:
        return cross_entropy(scores, targets, **options)
    return vocabulary_parallel_cross_entropy(scores, targets, group, **options)


def stirred(model, g):
    """The model with larger weights: with first ones of 0.02 all scores are alike, and mistakes small."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=g) * 0.3)
    return model


def gpt(config, B, T=8):
    """A GPT and its loss on random ids."""
    g = torch.Generator().manual_seed(7)
    ids = torch.randint(config.vocabulary_size, (B, T + 1), generator=g)
    return stirred(GPT(config, generator=g), g), lambda model, group: loss_of(model(ids[:, :-1]), ids[:, 1:], group)


def gpt2():
    return gpt(GPTConfig.gpt2(vocabulary_size=11, context=8, d_model=12, layers=2, heads=4), 3)


def llama():
    sizes = {"d_model": 16, "d_ff": 20, "layers": 2, "heads": 8, "kv_heads": 4}
    return gpt(GPTConfig.llama(vocabulary_size=5, context=8, **sizes), 2)  # of 4 ranks, one has no word


def bert(*, shared=False):
    g = torch.Generator().manual_seed(11)
    sizes = {"d_model": 12, "layers": 2, "heads": 4, "max_length": 8, "dropout": 0.0}
    ids, segments = torch.randint(13, (3, 8), generator=g), torch.randint(2, (3, 8), generator=g)
    places, follows, lengths = torch.rand(3, 8, generator=g) < 0.4, torch.tensor([0, 1, 1]), torch.tensor([8, 5, 7])
    config = BERTConfig.standard(vocabulary_size=13, shared=shared, **sizes)

    def loss(model, group):
        tokens, order = model(ids, lengths, segments=segments, places=places)
        return loss_of(tokens, ids[places], group) + cross_entropy(order, follows)

    return stirred(BERTForPretraining(config, generator=g), g), loss


def albert():
    return bert(shared=True)


def seq2seq(*, tied=False, order="pre"):
    g = torch.Generator().manual_seed(13)
    stack = TransformerConfig(d_model=12, heads=4, d_ff=20, layers=2, order=order)
    config = TransformerSeq2SeqConfig(source_size=11, target_size=11 if tied else 7, transformer=stack, tied=tied)
    source, lengths = torch.randint(11, (3, 12), generator=g), torch.tensor([12, 5, 7])
    target = torch.randint(1, 7, (3, 9), generator=g)
    target[1, 6:] = 0
    model = TransformerSeq2Seq(config, generator=g)
    return model, lambda model, group: loss_of(
        model(source, lengths, target[:, :-1]), target[:, 1:], group, ignore_index=0
    )


def seq2seq_tied():
    return seq2seq(tied=True, order="post")


CASES = {case.__name__: case for case in (gpt2, llama, bert, albert, seq2seq, seq2seq_tied)}


def train(case, dtype, sequence_parallel=False, group=None):
    """Losses, gradient norms, first gradients, and weights after two steps: of the whole model, or of a rank's part."""
    model, loss = CASES[case]()
    model = model.to(dtype)
    parallel = None if group is None else parallelize(model, group, sequence_parallel=sequence_parallel)
    # Adam divides by the gradient's size: what is zero but for rounding would become a step in a random direction.
    double = dtype == torch.float64
    optimizer = AdamW(model.parameters(), 0.01) if double else SGD(model.parameters(), 0.1, momentum=0.9)
    losses, gradients = [], None
    for _ in range(2):
        for p in model.parameters():
            p.grad = None
        losses.append(loss(model, group))
        losses[-1].backward()
        if parallel is not None:
            parallel.sum_gradients()
        if gradients is None:
            gradients = {name: p.grad.clone() for name, p in model.named_parameters(remove_duplicate=False)}
        whole = functools.partial(torch.nn.utils.clip_grad_norm_, list(model.parameters()))
        losses.append((whole if parallel is None else parallel.clip_grad_norm_)(0.7))
        optimizer.step()
    return torch.stack([x.detach() for x in losses]), gradients, model.state_dict()


def trainings(context, jobs):
    """Several trainings, one after the other: less waiting for workers."""
    return [train(*job, context.group) for job in jobs]


JOBS = {
    2: [(case, dtype, sp) for case in CASES for dtype in (torch.float32, torch.float64) for sp in (False, True)],
    4: [(case, torch.float64, case != "gpt2") for case in CASES] + [("gpt2", torch.float32, True)],
}


@functools.cache
def trained(n):
    """All trainings on n ranks, once."""
    return list(zip(*run(trainings, n, JOBS[n], check=False, timeout=120), strict=True))


@functools.cache
def on_one(case, dtype):
    """The training on one process, once."""
    return train(case, dtype)


@pytest.mark.parametrize(
    ("n", "job"),
    [(n, job) for n in JOBS for job in JOBS[n]],
    ids=lambda x: x if isinstance(x, int) else "-".join(map(str, x)),
)
def test_training_is_that_of_one_process(n, job):
    case, dtype, _ = job
    ranks = trained(n)[JOBS[n].index(job)]
    expected = on_one(case, dtype)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-10}
    losses, *states = zip(*ranks, strict=True)
    assert all(torch.equal(x, losses[0]) for x in losses)  # the very same on all ranks
    torch.testing.assert_close(losses[0], expected[0], **tolerance)
    plan = tensor_plan(CASES[case]()[0])
    for got, want in zip(states, expected[1:], strict=True):
        merged = merge_states(got, plan)  # raises if what all ranks have differs between them
        assert merged.keys() == want.keys()
        for name, x in want.items():
            torch.testing.assert_close(merged[name], x, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


def both_traffics(context):
    """Without and with sequence parallelism."""
    return traffic_of(context, False), traffic_of(context, True)


def traffic_of(context, sequence_parallel):
    """What a GPT sends, forward and backward, and what a stack alone does."""
    model, loss = gpt2()
    parallel = parallelize(model, context.group, sequence_parallel=sequence_parallel)
    with Traffic() as forward:
        value = loss(model, context.group)
    with Traffic() as backward:
        value.backward()
    with Traffic() as rest:
        parallel.sum_gradients()
    stack, x = model.decoder, torch.ones(3, 8, 12)
    with Traffic() as alone:
        stack(x)
    return [dict(t.bytes) for t in (forward, backward, rest, alone)], dict(forward.messages), dict(backward.messages)


@pytest.mark.parametrize("n", [2, 4])
def test_bytes_are_as_predicted(n):
    config = GPTConfig.gpt2(vocabulary_size=11, context=8, d_model=12, layers=2, heads=4).transformer
    plain, sequence = run(both_traffics, n, check=False)[0]
    (forward, backward, rest, alone), forth, back = plain
    assert (forward, backward) == gpt_traffic(config, 3, 8, n)
    assert rest == {}
    assert alone == layers_traffic(config, 3, 8, n)[0]
    assert (forth, back) == ({"all_reduce": 4 + 1 + 2}, {"all_reduce": 4 + 1})
    (forward, backward, rest, alone), forth, back = sequence
    assert (forward, backward) == gpt_traffic(config, 3, 8, n, sequence_parallel=True)
    assert rest == {"all_reduce": 4 * 12 * (2 * 6 + 2)}  # two norms and two biases of a layer, and the last norm
    assert alone["reduce_scatter"] == layers_traffic(config, 3, 8, n, sequence_parallel=True)[0]["reduce_scatter"]
    assert forth == {"all_gather": 4 + 1, "reduce_scatter": 4, "all_reduce": 1 + 2}
    assert back == {"all_gather": 4 + 1, "reduce_scatter": 4, "all_reduce": 1}


def test_prediction_refuses_what_cannot_be_cut():
    config = TransformerConfig(d_model=6, heads=3, d_ff=7, layers=2)
    with pytest.raises(ValueError, match="n = 2, length = 5"):
        layers_traffic(config, 1, 5, 2, sequence_parallel=True)


def dropped(context, sequence_parallel):
    """Which numbers each dropout lets pass, and the loss, with dropout everywhere."""
    stack = TransformerConfig(d_model=12, heads=4, d_ff=16, layers=1, dropout=0.5, activation="swiglu")
    config = GPTConfig(vocabulary_size=11, context=8, transformer=stack)
    model = GPT(config, generator=torch.Generator().manual_seed(1))
    parallelize(model, context.group, sequence_parallel=sequence_parallel, seed=3)
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, Dropout):
            module.register_forward_hook(
                lambda m, args, y, name=name: seen.setdefault(name, []).append((y != 0) | (args[0] == 0))
            )
    ids = torch.arange(16).reshape(2, 8) % 11
    loss = vocabulary_parallel_cross_entropy(model(ids), ids, context.group)
    return loss.detach(), seen


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_dropout_drops_the_same_of_what_all_ranks_have_and_else_not(sequence_parallel):
    (loss, first), (other, second) = run(dropped, 2, sequence_parallel)
    assert torch.equal(loss, other)
    own = {"decoder.layers.0.self_attention.dropout", "decoder.layers.0.feed_forward.dropout"}
    if sequence_parallel:
        own |= {"decoder.layers.0.dropout"}
    assert set(first) == own | {"dropout", "decoder.layers.0.dropout"}
    for name in first:
        for one, two in zip(first[name], second[name], strict=True):
            assert torch.equal(one, two) == (name not in own), name
            assert 0.2 < (~one).float().mean() < 0.8


def other_things(context):
    """A checkpoint of one process loaded into parts, and back; generation with a cache; a block by itself."""
    model, _ = gpt2()
    whole = copy.deepcopy(model)
    state = {name: x.clone() for name, x in whole.state_dict().items()}
    empty = GPT(model.config, device="meta")
    parallel = parallelize(empty, context.group)
    assert all(p.is_meta for p in empty.parameters())
    empty.to_empty(device="cpu")
    empty.output.weight = empty.embedding.weight
    parallel.load_whole_state(state)
    again = parallel.whole_state()
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], x) for name, x in state.items())
    assert empty.output.weight is empty.embedding.weight

    ids = torch.tensor([[3, 1, 4, 1, 5]])
    with torch.no_grad():
        scores, _ = empty.step(ids[:, 4], empty.start(ids[:, :4]))
        scores = gather_scores(scores, 11, context.group)
        torch.testing.assert_close(scores, whole(ids)[:, -1], rtol=1e-4, atol=1e-5)

    config = TransformerConfig(d_model=12, heads=4, d_ff=20, layers=1, norm="rms", activation="gelu")
    block = EncoderBlock(config, generator=torch.Generator().manual_seed(2)).eval()
    x = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(3))
    expected, weights = block(x, need_weights=True)
    split = copy.deepcopy(block)
    parallel = parallelize(split, context.group, sequence_parallel=True)
    y, own_weights = split(keep_part(x, context.group), need_weights=True)
    torch.testing.assert_close(join_parts(y, context.group), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(own_weights, weights[:, 2 * context.rank : 2 * context.rank + 2], rtol=1e-4, atol=1e-5)
    assert not split.feed_forward.training
    assert parallel.partial == set(dict(split.named_parameters())) - parallel.plan.keys() != set()
    return True


def test_checkpoints_caches_and_single_blocks():
    assert run(other_things, 2, check=False) == [True, True]


def frozen(context):
    """Only what is trained gets a gradient, and counts."""
    model, loss = gpt2()
    for name, p in model.named_parameters():
        p.requires_grad_("feed_forward" in name)
    parallel = parallelize(model, context.group, sequence_parallel=True)
    loss(model, context.group).backward()
    parallel.sum_gradients()
    return parallel.grad_norm(), sorted(name for name, p in model.named_parameters() if p.grad is not None)


def test_frozen_parameters_stay_out():
    model, loss = gpt2()
    named = {name: p.requires_grad_("feed_forward" in name) for name, p in model.named_parameters()}
    loss(model, None).backward()
    trained = sorted(name for name, p in named.items() if p.grad is not None)
    norm = torch.nn.utils.get_total_norm([named[name].grad for name in trained])
    for found, names in run(frozen, 2, check=False):
        torch.testing.assert_close(found, norm)
        assert names == trained


def refusals(context):
    """What each wrong use is answered with."""
    found = []

    def refused(function, *args, **options):
        with pytest.raises(ValueError) as error:  # noqa: PT011 (the messages are compared by the test)
            function(*args, **options)
        found.append(str(error.value))

    group = context.group
    stack = {"d_model": 12, "d_ff": 10, "layers": 1}
    build = functools.partial(GPTConfig.llama, vocabulary_size=7, context=8)
    three = GPT(build(heads=6, kv_heads=3, **stack))
    before = three.decoder.layers[0].self_attention
    refused(parallelize, three, group)
    assert three.decoder.layers[0].self_attention is before  # nothing was changed
    refused(parallelize, GPT(build(heads=1, **stack)), group)
    refused(parallelize, GPT(build(heads=2, **stack | {"d_ff": 7})), group)
    refused(parallelize, torch.nn.Linear(3, 3), group)
    refused(parallelize, MultiHeadAttention(4, 2), group)
    model = GPT(build(heads=2, **stack))
    parallel = parallelize(model, group, sequence_parallel=True)
    refused(parallelize, model, group)
    refused(model, torch.zeros(1, 5, dtype=torch.long))
    refused(parallel.clip_grad_norm_, 0.0)
    return found


def test_errors():
    path = "decoder.layers.0."
    assert run(refusals, 2)[1] == [
        f"{path}self_attention.in_proj_weight: 2 ranks cannot share 3 heads of keys and values equally",
        f"{path}self_attention.in_proj_weight: 2 ranks cannot share 1 heads equally",
        f"{path}feed_forward.down.weight: 2 ranks cannot share 7 hidden units equally",
        "a Linear has no attention, feed-forward network or map of words to split",
        "a MultiHeadAttention cannot change in place: make a Parallel… of it",
        "the model is split already: build a whole one, and load `whole_state()` into it",
        "axis 1 of x, shape (1, 5, 12), has length 5, which 2 ranks cannot share equally: make it a multiple of 2",
        "max_norm must be above 0, got 0.0",
    ]
