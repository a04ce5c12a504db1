"""The engine of pipeline parallelism: for every schedule the losses, gradients and weights of one process."""

from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy

from lmcore.models.gpt import GPT, GPTConfig
from lmcore.parallel.gpt_layers import gpt_layers
from lmcore.parallel.launch import run
from lmcore.parallel.mail import Mail
from lmcore.parallel.messages import WorkerTimeout
from lmcore.parallel.pipeline import Pipeline
from lmcore.parallel.recompute import Recomputed, SavedMemory
from lmcore.parallel.schedules import Action, Schedule, gpipe, interleaved, naive, one_forward_one_backward
from lmcore.parallel.stages import cut
from lmcore.parallel.timeline import idle_share, in_flight, messages

pytestmark = pytest.mark.timeout(60)

SCHEDULES = {
    "naive": lambda ranks: naive(ranks),
    "gpipe": lambda ranks: gpipe(ranks, 3),
    "1f1b": lambda ranks: one_forward_one_backward(ranks, 5),
    "interleaved": lambda ranks: interleaved(ranks, 4, 2),
}


def mlp(dtype):
    """Nine layers of different widths."""
    torch.manual_seed(3)
    sizes = [5, 7, 11, 3, 13]
    layers = [part for a, b in zip(sizes[:-1], sizes[1:], strict=True) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(13, 17)).to(dtype)


def frozen_mlp(dtype):
    """The same; the first linear layer and the third do not learn, of the second the bias does not."""
    model = mlp(dtype)
    for parameter in (*model[0].parameters(), *model[4].parameters(), model[2].bias):
        parameter.requires_grad_(False)
    return model


def gpt(dtype, *, positions="gpt2", frozen=False):
    """A small GPT with tied embeddings."""
    torch.manual_seed(7)
    sizes = {"vocabulary_size": 23, "context": 11, "d_model": 12, "layers": 6, "heads": 3}
    config = GPTConfig.gpt2(**sizes) if positions == "gpt2" else GPTConfig.llama(**sizes, d_ff=19, tied=True)
    model = GPT(config).to(dtype)
    model.embedding.weight.requires_grad_(not frozen)
    return model


def squares(output, target):
    """Mean squared error."""
    return (output - target).square().mean()


def token_loss(logits, targets):
    """Cross-entropy, the mean over tokens that are not masked."""
    return cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def tokens(targets):
    """How many tokens are not masked."""
    return (targets != -100).sum().item()


def layers_of(model):
    """The model as a row of layers."""
    return gpt_layers(model) if isinstance(model, GPT) else list(model)


def numbers_batches(dtype, rows=13):
    """Two batches of numbers."""
    torch.manual_seed(11)
    return [(torch.randn(rows, 5, dtype=dtype), torch.randn(rows, 17, dtype=dtype)) for _ in range(2)]


def token_batches(masked=False):
    """Two batches of ids and the ids that follow."""
    torch.manual_seed(13)
    batches = [torch.randint(23, (2, 13, 11)).unbind() for _ in range(2)]
    for _, targets in batches:
        if masked:
            targets[:4, 3:] = -100  # the first microbatches have fewer tokens than the others
    return batches


def optimizer_for(parameters, dtype):
    """Adam where its division by tiny gradients does no harm; else momentum."""
    parameters = [{"params": [p for p in parameters if p.requires_grad]}]  # a rank may have none
    return torch.optim.AdamW(parameters, 0.01) if dtype == torch.float64 else torch.optim.SGD(parameters, 0.1, 0.9)


def results(model, parameters, losses, grads):
    """Losses, the first step's gradients, the weights in the end."""
    mine = set(parameters)
    return losses, grads, {name: p.detach().clone() for name, p in model.named_parameters() if p in mine}


def gradients(model, parameters):
    """Gradients by name."""
    mine = set(parameters)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p in mine and p.grad is not None}


def alone(make, dtype, batches, loss, optimizer=optimizer_for):
    """Two steps of one process."""
    model = make(dtype)
    optimizer, losses = optimizer(model.parameters(), dtype), []
    for number, (x, y) in enumerate(batches):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        losses.append(value.item())
        if number == 0:
            grads = gradients(model, model.parameters())
        optimizer.step()
    return results(model, model.parameters(), losses, grads)


def together(context, make, dtype, batches, schedule, loss, count=len, group=None, optimizer=optimizer_for):
    """Two steps of a pipeline."""
    model = make(dtype)
    stages = cut(layers_of(model), schedule.stages)
    pipeline = Pipeline(stages, schedule, loss=loss, group=group or context.group, count=count)
    optimizer, losses = optimizer(pipeline.parameters(), dtype), []
    for number, (x, y) in enumerate(batches):
        optimizer.zero_grad()
        losses.append(pipeline.step(x, y))
        if number == 0:
            grads = gradients(model, pipeline.parameters())
        optimizer.step()
    return results(model, pipeline.parameters(), losses, grads)


def assert_equal(outputs, expected, dtype):
    """Require what one process gives: losses on all ranks, and every gradient and weight on the rank that has it."""
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype == torch.float32 else 1e-10}
    losses, grads, weights = expected
    for own_losses, own_grads, own_weights in outputs:
        torch.testing.assert_close(torch.tensor(own_losses), torch.tensor(losses), **tolerance)
        for name, gradient in own_grads.items():
            torch.testing.assert_close(
                gradient, grads[name], **tolerance, msg=lambda m, n=name: f"gradient of {n}: {m}"
            )
        for name, weight in own_weights.items():
            torch.testing.assert_close(weight, weights[name], **tolerance, msg=lambda m, n=name: f"weight {n}: {m}")
    for own, all_names in ((1, grads), (2, weights)):
        assert set().union(*(output[own] for output in outputs)) == set(all_names)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("schedule", SCHEDULES)
class TestEqualToOneProcess:
    def test_numbers(self, schedule, ranks, dtype):
        batches = numbers_batches(dtype)  # 13 rows: the microbatches differ in size
        outputs = run(together, ranks, mlp, dtype, batches, SCHEDULES[schedule](ranks), squares, timeout=30)
        assert_equal(outputs, alone(mlp, dtype, batches, squares), dtype)

    def test_tied_gpt(self, schedule, ranks, dtype):
        batches = token_batches()
        outputs = run(together, ranks, gpt, dtype, batches, SCHEDULES[schedule](ranks), token_loss, timeout=30)
        assert_equal(outputs, alone(gpt, dtype, batches, token_loss), dtype)


def test_frozen_parameters_get_no_gradient_and_hold_nothing_up():
    dtype, batches = torch.float64, numbers_batches(torch.float64)
    outputs = run(together, 4, frozen_mlp, dtype, batches, one_forward_one_backward(4, 5), squares, timeout=30)
    assert_equal(outputs, alone(frozen_mlp, dtype, batches, squares), dtype)
    assert "0.weight" not in outputs[0][1]
    make = partial(gpt, frozen=True)
    outputs = run(together, 2, make, dtype, token_batches(), gpipe(2, 3), token_loss, timeout=30)
    assert_equal(outputs, alone(make, dtype, token_batches(), token_loss), dtype)


def test_rotary_positions():
    dtype, make = torch.float64, partial(gpt, positions="rotary")
    outputs = run(together, 2, make, dtype, token_batches(), interleaved(2, 4, 3), token_loss, timeout=30)
    assert_equal(outputs, alone(make, dtype, token_batches(), token_loss), dtype)


def test_microbatches_count_by_what_their_loss_is_a_mean_of():
    dtype, batches, schedule = torch.float64, token_batches(masked=True), gpipe(2, 3)
    expected = alone(gpt, dtype, batches, token_loss)
    outputs = run(together, 2, gpt, dtype, batches, schedule, token_loss, tokens, timeout=30)
    assert_equal(outputs, expected, dtype)
    by_rows = run(together, 2, gpt, dtype, batches, schedule, token_loss, timeout=30)
    assert abs(by_rows[0][0][0] - expected[0][0]) > 1e-3


def test_one_rank_with_several_stages():
    dtype, batches = torch.float64, numbers_batches(torch.float64)
    outputs = run(together, 1, mlp, dtype, batches, interleaved(1, 3, 4), squares, timeout=30)
    assert_equal(outputs, alone(mlp, dtype, batches, squares), dtype)


def both_ways(context, batches, schedule):
    """Two pipelines side by side, each with half of every batch; their gradients are averaged."""
    groups = {ranks: dist.new_group(ranks) for ranks in ((0, 1), (2, 3), (0, 2), (1, 3))}  # all ranks make all groups
    replica, stage = divmod(context.rank, 2)
    pipe, data = groups[2 * replica, 2 * replica + 1], groups[stage, stage + 2]
    half = [tuple(rows[replica::2] for rows in batch) for batch in batches]
    model = gpt(torch.float64)
    pipeline = Pipeline(cut(gpt_layers(model), 2), schedule, loss=token_loss, group=pipe)
    optimizer, losses = optimizer_for(pipeline.parameters(), torch.float64), []
    for number, (x, y) in enumerate(half):
        optimizer.zero_grad()
        loss = torch.tensor(pipeline.step(x, y))
        for tensor in (loss, *(p.grad for p in pipeline.parameters())):
            dist.all_reduce(tensor, group=data)
            tensor /= 2
        losses.append(loss.item())
        if number == 0:
            grads = gradients(model, pipeline.parameters())
        optimizer.step()
    return results(model, pipeline.parameters(), losses, grads)


def test_data_and_pipeline_parallelism():
    batches = [tuple(rows[:12] for rows in batch) for batch in token_batches()]
    outputs = run(both_ways, 4, batches, one_forward_one_backward(2, 3), timeout=30)
    assert_equal(outputs, alone(gpt, torch.float64, batches, token_loss), torch.float64)


def accumulate(context, batches):
    """The gradient of the embedding after two batches without an optimizer's step."""
    model = gpt(torch.float64)
    pipeline = Pipeline(cut(gpt_layers(model), 2), gpipe(2, 3), loss=token_loss, group=context.group)
    for x, y in batches:
        pipeline.step(x, y)
    return model.embedding.weight.grad


def test_gradients_of_several_steps_add_up_also_where_parameters_are_shared():
    model, batches = gpt(torch.float64), token_batches()
    for x, y in batches:
        token_loss(model(x), y).backward()
    for gradient in run(accumulate, 2, batches, timeout=30):
        torch.testing.assert_close(gradient, model.embedding.weight.grad, rtol=0, atol=1e-10)


def counted(context, schedule):
    """Messages, bytes, measured order, and the peak of what autograd keeps."""
    model = mlp(torch.float32)
    pipeline = Pipeline(cut(model, schedule.stages, [1] * 9), schedule, loss=squares, group=context.group)
    torch.manual_seed(5)
    x, y = torch.randn(24, 5), torch.randn(24, 17)
    with SavedMemory() as memory:
        pipeline.step(x, y)
    order = [event.action for event in pipeline.events]
    return pipeline.mail.messages, pipeline.mail.bytes, order, memory.peak, memory.now, pipeline.events


def test_what_is_sent_and_kept_is_what_the_schedule_says():
    peaks = {}
    for schedule in (gpipe(2, 8), one_forward_one_backward(2, 8), interleaved(2, 8, 2)):
        outputs = run(counted, 2, schedule, timeout=30)
        sent, sizes, order, peaks[schedule], after, events = zip(*outputs, strict=True)
        assert sum(sent) == messages(schedule)
        assert tuple(map(tuple, order)) == schedule.actions
        assert after == (0, 0)
        assert 0 <= idle_share([event for own in events for event in own], 2) < 1
        if schedule.stages == 2:  # nine layers are cut after the fifth or the fourth, 11 numbers wide; 24 rows
            assert sum(sizes) == 2 * 24 * 11 * 4
    many, few = list(peaks)[:2]
    assert (in_flight(many), in_flight(few)) == ([8, 8], [2, 1])
    batch = 24 * 5 * 4  # the microbatches of the first stage's input are views of the batch, whose storage counts once
    assert (peaks[many][0] - batch) / (peaks[few][0] - batch) == 8 / 2
    assert peaks[many][1] / peaks[few][1] == 8 / 1


def with_recomputation(context, batches):
    """Gradients of a pipeline whose stages recompute, dropout included, and of the same stages without."""
    found = []
    for wrap in (nn.Sequential, Recomputed):
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.5), nn.Tanh(), nn.Linear(7, 17)).double()
        stages = [wrap(stage) for stage in cut(model, 2, [1] * 4)]
        pipeline = Pipeline(stages, gpipe(2, 3), loss=squares, group=context.group)
        loss = pipeline.step(*batches[0])
        found.append((loss, [p.grad for p in pipeline.parameters()]))
    return found


def test_stages_that_recompute():
    for (loss, grads), (loss_again, grads_again) in run(with_recomputation, 2, numbers_batches(torch.float64)):
        assert loss == loss_again
        torch.testing.assert_close(grads, grads_again, rtol=0, atol=0)


def refusals(context, builds, batches, whole_numbers):
    """What is said to pipelines that do not fit their schedules, and to batches that do not fit; nothing is sent."""
    said = []
    pipeline = Pipeline(cut(mlp(torch.float32), 2), gpipe(2, 3), loss=squares, group=context.group)
    calls = [
        partial(Pipeline, list(mlp(torch.float32))[:stages], schedule, loss=squares, group=context.group)
        for stages, schedule in builds
    ]
    calls += [partial(pipeline.step, *batch) for batch in batches]
    calls += [partial(pipeline.mail.send, whole_numbers, 1 - context.rank, 0)]
    for call in calls:
        try:
            said.append(call())
        except (ValueError, TypeError) as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


class TestErrors:
    def test_pipelines_and_batches_that_do_not_fit(self):
        first = tuple(Action(kind, 0, 0) for kind in "FB")
        hang = Schedule(ranks=2, stages=2, microbatches=1, actions=(first, (Action("B", 0, 1), Action("F", 0, 1))))
        builds = [(3, gpipe(2, 4)), (4, gpipe(4, 4)), (2, hang)]
        batches = [(torch.ones(2, 5), torch.ones(2, 17)), (torch.ones(7, 5), torch.ones(5, 17))]
        messages = [
            "ValueError: the schedule is for 2 stages on 2 ranks, but there are 3 stages and the group has 2 ranks",
            "ValueError: the schedule is for 4 stages on 4 ranks, but there are 4 stages and the group has 2 ranks",
            "ValueError: deadlock: rank 0 at B0@0 waits for B0@1; rank 1 at B0@1 waits for F0@1",
            "ValueError: 2 inputs and 2 targets: there must be as many of both, and at least one for each of 3 microb",
            "ValueError: 7 inputs and 5 targets",
            "TypeError: stages pass tensors of torch.float32, torch.float64, torch.float16, torch.bfloat16 to",
        ]
        for said in run(refusals, 2, builds, batches, torch.ones(3, dtype=torch.int64), timeout=30):
            for text, expected in zip(said, messages, strict=True):
                assert str(text).startswith(expected)

    def test_more_ranks_than_layers(self):
        with pytest.raises(ValueError, match=r"10 stages cannot be cut from 9 layers: .* 1 … 9 are allowed"):
            cut(mlp(torch.float32), 10)


def exchange(context, tensors):
    """Both ranks send all tensors first and receive them afterwards, in another order; and one to itself."""
    mail, other = Mail(context.group), 1 - context.rank
    for tag, tensor in enumerate(tensors):
        mail.send(tensor, other, tag)
    mail.send(tensors[0], context.rank, 99)
    got = [mail.receive(other, tag) for tag in reversed(range(len(tensors)))][::-1]
    mail.wait()
    return [*got, mail.receive(context.rank, 99)], mail.messages, mail.bytes


def both_receive_first(context):
    """What Mail avoids."""
    tensor = torch.ones(3)
    dist.recv(tensor, group=context.group, group_src=1 - context.rank)
    dist.send(tensor, group=context.group, group_dst=1 - context.rank)


class TestMail:
    def test_shapes_types_and_order(self):
        tensors = [
            torch.arange(6.0).reshape(2, 3).T,  # not contiguous
            torch.tensor(3.5, dtype=torch.float64),
            torch.ones(2, 0, 3, dtype=torch.float16),
            torch.full((5,), 0.5, dtype=torch.bfloat16),
        ]
        for got, sent, size in run(exchange, 2, tensors, timeout=30):
            for one, expected in zip(got, [*tensors, tensors[0]], strict=True):
                assert one.dtype == expected.dtype
                assert torch.equal(one, expected)
            assert (sent, size) == (4, 24 + 8 + 0 + 10)

    def test_without_it_two_ranks_that_receive_first_wait_for_ever(self):
        run(exchange, 2, [torch.ones(1)], timeout=30)  # now the workers have imported what they need
        with pytest.raises(WorkerTimeout, match=r"2 of 2 ranks not done after 2 s: rank 0 in recv.*; rank 1 in recv"):
            run(both_receive_first, 2, timeout=2)

    def test_another_backend_is_refused(self, monkeypatch):
        monkeypatch.setattr(dist, "get_backend", lambda group: "nccl")
        with pytest.raises(ValueError, match=r"group has the backend nccl, must be gloo: dist.new_group"):
            Mail(None)
