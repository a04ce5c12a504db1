"""Two ways of splitting at once, on 2 × 2 processes: data × tensor, data × pipeline, tensor × pipeline.

The ranks form a grid. Those of a row share out one dimension, those of a column the other; the groups are arguments, so
that nothing in the ways themselves knows of the grid. Loss, all gradients and the weights after two steps are those of
one process.
"""

import pytest
import torch
import torch.distributed as dist
from torch.nn import ModuleList

from lmcore.models.gpt import GPT, GPTConfig
from lmcore.nn.functional import cross_entropy
from lmcore.parallel.data_parallel import DataParallel, all_reduce_gradients, global_mean, total_over_ranks
from lmcore.parallel.gpt_layers import gpt_layers
from lmcore.parallel.launch import run
from lmcore.parallel.pipeline import Pipeline
from lmcore.parallel.schedules import one_forward_one_backward
from lmcore.parallel.stages import cut
from lmcore.parallel.tensor_model import parallelize
from lmcore.parallel.tensor_split import merge_states, tensor_plan
from lmcore.parallel.tensor_vocabulary import vocabulary_parallel_cross_entropy
from lmcore.train.optim import SGD

pytestmark = pytest.mark.timeout(180)
BATCHES = 2


def whole_model(dtype):
    """A GPT with tied embeddings."""
    g = torch.Generator().manual_seed(5)
    config = GPTConfig.llama(
        vocabulary_size=13, context=7, d_model=16, d_ff=20, layers=3, heads=4, kv_heads=2, tied=True
    )
    return GPT(config, generator=g).to(dtype)


def batches(rows=7):
    """Ids of two batches; the rows cannot be shared out evenly."""
    g = torch.Generator().manual_seed(17)
    return torch.randint(13, (BATCHES, rows, 8), generator=g)


def grid(context):
    """Groups of this rank on the 2 × 2 grid: (the row's, the column's). Every rank must make every group."""
    rows = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    columns = [dist.new_group([0, 2]), dist.new_group([1, 3])]
    return rows[context.rank // 2], columns[context.rank % 2]


def rows_of(x, group):
    """This rank's rows: 4 and 3 of 7."""
    return x.tensor_split(dist.get_world_size(group))[dist.get_rank(group)]


def one_process(dtype):
    """Losses, first gradients, and weights after two steps."""
    model = whole_model(dtype)
    optimizer, losses, first = SGD(model.parameters(), 0.5, momentum=0.9), [], None
    for x in batches():
        optimizer.zero_grad()
        loss = cross_entropy(model(x[:, :-1]), x[:, 1:])
        loss.backward()
        losses.append(loss.item())
        first = first or {name: p.grad.clone() for name, p in model.named_parameters()}
        optimizer.step()
    return losses, first, {name: p.detach() for name, p in model.named_parameters()}


def data_and_tensor(context, dtype):
    """A row of the grid has the parts of one model, a column copies of one part."""
    tensor, data = grid(context)
    model = whole_model(dtype)
    split = parallelize(model, tensor)
    replica = DataParallel(model, data, bucket_bytes=900)
    optimizer, losses, first = SGD(model.parameters(), 0.5, momentum=0.9), [], None
    for x in batches():
        optimizer.zero_grad()
        mine = rows_of(x, data)
        mean = vocabulary_parallel_cross_entropy(replica(mine[:, :-1]), mine[:, 1:], tensor)
        count = mine[:, 1:].numel()
        loss = global_mean(mean * count, count, data)
        loss.backward()
        replica.synchronize()
        split.sum_gradients()
        losses.append(total_over_ranks(loss, data).item())
        first = first or {name: p.grad.clone() for name, p in model.named_parameters()}
        optimizer.step()
    return losses, first, {name: p.detach() for name, p in model.named_parameters()}


def data_and_pipeline(context, dtype):
    """A row of the grid has the stages of one model, a column copies of one stage."""
    stages, data = grid(context)
    model = whole_model(dtype)
    pipeline = Pipeline(
        cut(gpt_layers(model), 2), one_forward_one_backward(2, 3), group=stages, loss=token_loss, count=torch.numel
    )
    return train_stages(model, pipeline, data)


def tensor_and_pipeline(context, dtype):
    """A row of the grid has the stages, a column the parts of one stage."""
    stages, tensor = grid(context)
    model = whole_model(dtype)
    parallelize(model, tensor)
    pipeline = Pipeline(
        cut(gpt_layers(model), 2), one_forward_one_backward(2, 3), group=stages, count=torch.numel,
        loss=lambda scores, targets: vocabulary_parallel_cross_entropy(scores, targets, tensor),
    )  # fmt: skip
    return train_stages(model, pipeline, None)


def token_loss(scores, targets):
    """Nats per token."""
    return cross_entropy(scores, targets)


def train_stages(model, pipeline, data):
    """Train a rank's stages; with a group of copies, on its own rows."""
    own = ModuleList(pipeline.stages.values())
    optimizer, losses, first = SGD(pipeline.parameters(), 0.5, momentum=0.9), [], None
    names = {p: name for name, p in model.named_parameters()}
    for x in batches():
        optimizer.zero_grad()
        mine = x if data is None else rows_of(x, data)
        loss, share = pipeline.step(mine[:, :-1], mine[:, 1:]), len(mine) / len(x)
        if data is not None:  # the mean over my rows counts by their share of all rows
            for p in pipeline.parameters():
                p.grad *= share
            all_reduce_gradients(own, data)
            loss = total_over_ranks(torch.tensor(loss * share, dtype=torch.float64), data).item()
        losses.append(loss)
        first = first or {names[p]: p.grad.clone() for p in pipeline.parameters()}
        optimizer.step()
    return losses, first, {names[p]: p.detach() for p in pipeline.parameters()}


def joined(parts, which, split):
    """What the ranks hold of the whole: stages put together, split tensors merged."""
    if split is None:
        return {name: x for part in parts for name, x in part[which].items()}
    plan = tensor_plan(whole_model(torch.float32))
    first, second = ({name: x for i in half for name, x in parts[i][which].items()} for half in split)
    return merge_states([first, second], {name: plan[name] for name in plan if name in first})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("work", "split"),
    [
        (data_and_tensor, [[0], [1]]),  # ranks whose parts make up the first half of all tensors, and the second
        (data_and_pipeline, None),
        (tensor_and_pipeline, [[0, 1], [2, 3]]),
    ],
)
def test_two_at_a_time_are_one_process(work, split, dtype):
    losses, gradients, weights = one_process(dtype)
    got = run(work, 4, dtype, timeout=90, check=False)
    tolerance = {"atol": 1e-10, "rtol": 1e-10} if dtype == torch.float64 else {"atol": 1e-5, "rtol": 1e-5}
    for ours, _, _ in got:
        torch.testing.assert_close(ours, losses, **tolerance)
    for which, want in ((1, gradients), (2, weights)):
        found = joined(got, which, split)
        assert found.keys() == want.keys()
        for name in want:
            torch.testing.assert_close(found[name], want[name], **tolerance, msg=lambda m, n=name: f"{n}: {m}")
    if work is not tensor_and_pipeline:  # the copies stay equal, to the last bit
        for a, b in ((0, 2), (1, 3)):
            assert all(torch.equal(got[a][2][name], got[b][2][name]) for name in got[a][2])
