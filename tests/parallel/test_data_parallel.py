"""Data parallelism gives what one process gives: loss, every gradient, and the weights after two steps."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from lmcore.models.gpt import GPT, GPTConfig
from lmcore.parallel.data_parallel import (
    DataParallel,
    all_reduce_gradients,
    broadcast_state,
    global_mean,
    total_over_ranks,
)
from lmcore.parallel.gradient_buckets import Bucket, assign_buckets, make_buckets, predict_traffic
from lmcore.parallel.launch import run
from lmcore.parallel.messages import WorkerError
from lmcore.parallel.traffic import Traffic, ring_bytes
from lmcore.train.optim import SGD, AdamW

TIMEOUT = 60
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


class Tangled(nn.Module):
    """Sizes 7, 5, 3; one weight used twice, one frozen, and a branch that not every example needs."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(7, 5)
        self.square = nn.Linear(5, 5)
        self.again = nn.Linear(5, 5)
        self.again.weight = self.square.weight
        self.frozen = nn.Linear(5, 5).requires_grad_(False)
        self.branch = nn.Linear(5, 5)
        self.never = nn.Linear(2, 11)
        self.last = nn.Linear(5, 3)
        self.register_buffer("offset", torch.randn(5))

    def forward(self, x, branch=True):
        h = torch.tanh(self.first(x))
        h = torch.tanh(self.again(torch.tanh(self.square(h)))) + self.frozen(h)
        return self.last(h + self.branch(h) + self.offset if branch else h + self.offset)


def make_model(kind, dtype):
    """The model, its inputs and targets: 13 examples, which neither 2 nor 4 divides."""
    generator = torch.Generator().manual_seed(3)
    if kind == "tangled":
        torch.manual_seed(5)
        model = Tangled().to(dtype)
        x = torch.randn(13, 7, generator=generator, dtype=dtype)
        return model, x, torch.randint(3, (13,), generator=generator)
    config = GPTConfig.gpt2(vocabulary_size=11, context=6, d_model=8, layers=2, heads=2)
    model = GPT(config, generator=torch.Generator().manual_seed(7)).to(dtype)
    ids = torch.randint(11, (13, 7), generator=generator)
    return model, ids[:, :-1], ids[:, 1:]


def total_loss(model, x, y, **kwargs):
    """The sum over the predictions, and how many they are."""
    logits = model(x, **kwargs)
    return nn.functional.cross_entropy(logits.flatten(0, -2), y.flatten(), reduction="sum"), y.numel()


def make_optimizer(model, dtype):
    """AdamW divides a gradient by its size; one that is zero but for rounding can be compared in doubles only."""
    if dtype == torch.float64:
        return AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    return SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)


def one_process(kind, dtype, branches=(True, True, True, True)):
    """Two steps of one process that has all examples; branches: which quarter of them goes through the branch."""
    model, x, y = make_model(kind, dtype)
    optimizer = make_optimizer(model, dtype)
    losses, gradients = [], []
    for _ in range(2):
        optimizer.zero_grad()
        parts = [
            total_loss(model, x[r::4], y[r::4], **({} if b else {"branch": False})) for r, b in enumerate(branches)
        ]
        loss = sum(part for part, _ in parts) / sum(count for _, count in parts)
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in model.named_parameters()})
        optimizer.step()
    return losses, gradients, model.state_dict()


def train(context, helpers, kind, dtype, how, branches=(True, True, True, True)):
    """Two steps of this rank's part; on other ranks than 0 the model begins with other numbers."""
    make_model, total_loss, make_optimizer = helpers
    model, x, y = make_model(kind, dtype)
    mine = [(r, b) for r, b in enumerate(branches) if r % context.world_size == context.rank]
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor += context.rank
    group, unused = context.group, kind == "tangled"
    if how:
        model = DataParallel(model, group, bucket_bytes=how, find_unused=unused)
    else:
        broadcast_state(model, group)
    optimizer = make_optimizer(model, dtype)
    losses, gradients = [], []
    for _ in range(2):
        optimizer.zero_grad()
        parts = [total_loss(model, x[r::4], y[r::4], **({} if b else {"branch": False})) for r, b in mine]
        loss = global_mean(sum(p for p, _ in parts), sum(c for _, c in parts), group)
        loss.backward()
        if how:
            model.synchronize()
        else:
            all_reduce_gradients(model, group, find_unused=unused)
        losses.append(total_over_ranks(loss, group).item())
        named = (model.module if how else model).named_parameters()
        gradients.append({name: p.grad if p.grad is None else p.grad.clone() for name, p in named})
        optimizer.step()
    return losses, gradients, (model.module if how else model).state_dict()


HELPERS = make_model, total_loss, make_optimizer  # sent along with the functions that run on the workers


def assert_same(got, expected, tolerance):
    """Losses, gradients (None where nobody used a parameter) and weights."""
    assert got[0] == pytest.approx(expected[0], rel=tolerance, abs=tolerance)
    for mine, theirs in zip(got[1], expected[1], strict=True):
        assert mine.keys() == theirs.keys()
        for name in theirs:
            if theirs[name] is None:
                assert mine[name] is None, name
            else:
                torch.testing.assert_close(mine[name], theirs[name], rtol=tolerance, atol=tolerance, msg=name)
    for name, weight in expected[2].items():
        torch.testing.assert_close(got[2][name], weight, rtol=tolerance, atol=tolerance)


class TestParity:
    @pytest.mark.parametrize("world_size", [2, 4])
    @pytest.mark.parametrize("how", [0, 100, 10**6], ids=["naive", "small buckets", "one bucket"])
    @pytest.mark.parametrize("kind", ["tangled", "gpt"])
    def test_equal_to_one_process(self, kind, how, world_size):
        expected = one_process(kind, torch.float64)
        args = (HELPERS, kind, torch.float64, how)
        for got in run(train, world_size, *args, timeout=TIMEOUT, check=kind == "tangled"):
            assert_same(got, expected, TOLERANCE[torch.float64])

    @pytest.mark.parametrize("world_size", [2, 4])
    @pytest.mark.parametrize("kind", ["tangled", "gpt"])
    def test_equal_in_float32(self, kind, world_size):
        expected = one_process(kind, torch.float32)
        args = (HELPERS, kind, torch.float32, 2000)
        for got in run(train, world_size, *args, timeout=TIMEOUT, check=False):
            assert_same(got, expected, TOLERANCE[torch.float32])

    @pytest.mark.parametrize("branches", [(False, True, False, True), (False,) * 4], ids=["on one rank", "on none"])
    @pytest.mark.parametrize("how", [0, 100], ids=["naive", "buckets"])
    def test_a_branch_that_some_ranks_do_not_use(self, how, branches):
        expected = one_process("tangled", torch.float64, branches)
        assert (expected[1][0]["branch.weight"] is None) == (not any(branches))
        for got in run(train, 2, HELPERS, "tangled", torch.float64, how, branches, timeout=TIMEOUT):
            assert_same(got, expected, 1e-10)

    def test_a_rank_without_examples(self):
        def work(context):
            torch.manual_seed(2)
            model = nn.Linear(3, 2, dtype=torch.float64)
            x = torch.arange(9.0, dtype=torch.float64).view(3, 3)
            replica = DataParallel(model, context.group)
            mine = x[context.rank :: context.world_size]
            global_mean(replica(mine).square().sum(), len(mine), context.group).backward()
            replica.synchronize()
            model2 = nn.Linear(3, 2, dtype=torch.float64)
            model2.load_state_dict(model.state_dict())
            (model2(x).square().sum() / 3).backward()
            return len(mine), (model.weight.grad - model2.weight.grad).abs().max().item()

        results = run(work, 4, timeout=TIMEOUT)
        assert [count for count, _ in results] == [1, 1, 1, 0]
        assert max(error for _, error in results) < 1e-12

    def test_accumulating_is_one_large_batch_with_a_quarter_of_the_messages(self):
        def work(context, make_model, total_loss):
            model, x, y = make_model("gpt", torch.float64)
            replica = DataParallel(model, context.group, bucket_bytes=3000)
            mine = list(range(context.rank, 13, context.world_size))
            losses = [total_loss(replica, x[i : i + 1], y[i : i + 1]) for i in mine[:-1]]
            everything = 13 * 6
            with Traffic() as traffic:
                with replica.no_sync():
                    for loss, _ in losses:
                        (loss / everything).backward()
                inside = len(traffic.calls)
                (total_loss(replica, x[mine[-1:]], y[mine[-1:]])[0] / everything).backward()
                replica.synchronize()
            return inside, traffic.calls, {name: p.grad for name, p in model.named_parameters()}, len(replica.buckets)

        expected = one_process("gpt", torch.float64)[1][0]
        for inside, calls, gradients, buckets in run(work, 2, make_model, total_loss, timeout=TIMEOUT, check=False):
            assert inside == 0
            assert len(calls) == buckets > 2
            for name, gradient in expected.items():
                torch.testing.assert_close(gradients[name], gradient, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("kind", ["tangled", "gpt"])
    def test_equal_to_distributed_data_parallel(self, kind):
        def work(context, make_model, kind):
            results = []
            for theirs in (False, True):
                model, x, y = make_model(kind, torch.float64)
                x, y = x[:12][context.rank :: 2], y[:12][context.rank :: 2]  # equal counts: DDP averages means
                unused = kind == "tangled"
                if theirs:
                    options = {"process_group": context.group, "find_unused_parameters": unused}
                    wrapped = nn.parallel.DistributedDataParallel(model, **options)
                else:
                    wrapped = DataParallel(model, context.group, find_unused=unused)
                optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
                for _ in range(3):
                    optimizer.zero_grad()
                    total = nn.functional.cross_entropy(wrapped(x).flatten(0, -2), y.flatten(), reduction="sum")
                    if theirs:
                        (total / y.numel()).backward()
                    else:
                        global_mean(total, y.numel(), context.group).backward()
                        wrapped.synchronize()
                    optimizer.step()
                results.append(model.state_dict())
            return results

        for ours, theirs in run(work, 2, make_model, kind, timeout=TIMEOUT, check=False):
            for name in theirs:
                torch.testing.assert_close(ours[name], theirs[name], rtol=1e-10, atol=1e-10)

    def test_groups_are_arguments(self):
        def work(context):
            pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
            mine = pairs[context.rank // 2]
            torch.manual_seed(context.rank)
            model = nn.Linear(2, 1)
            replica = DataParallel(model, mine)
            global_mean(replica(torch.full((1, 2), float(context.rank))).sum(), 1, mine).backward()
            replica.synchronize()
            return model.weight[0, 0].item(), model.weight.grad[0, 0].item()

        weights, gradients = zip(*run(work, 4, timeout=TIMEOUT), strict=True)
        assert gradients == (0.5, 0.5, 2.5, 2.5)
        assert weights[0] == weights[1] != weights[2] == weights[3]


class TestOverlap:
    def test_the_first_bucket_leaves_before_the_last_gradient_is_there_and_in_order(self):
        def work(context):
            order = []

            def reduce(bucket, group):
                order.append(("leaves", bucket.index))
                work = dist.all_reduce(bucket.flat, group=group, async_op=True)

                def finish():
                    order.append(("awaited", bucket.index))
                    work.wait()

                return finish

            model = nn.Sequential(*[nn.Linear(3, 3, bias=False) for _ in range(5)])
            replica = DataParallel(model, context.group, bucket_bytes=36, reduce=reduce)
            first = model[0].weight
            first.register_post_accumulate_grad_hook(lambda p: order.append(("gradient", "first layer")))
            replica(torch.ones(2, 3)).sum().backward()
            order.append(("backward", "over"))
            replica.synchronize()
            return order

        leaves = [("leaves", index) for index in range(5)]
        end = [("gradient", "first layer"), ("backward", "over")]
        expected = leaves + end + [("awaited", index) for index in range(5)]
        assert run(work, 2, timeout=TIMEOUT) == [expected, expected]

    def test_gradients_in_another_order_still_leave_in_the_order_of_the_buckets(self):
        class Swapped(nn.Module):
            def __init__(self, swap):
                super().__init__()
                self.a, self.b, self.swap = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), swap

            def forward(self, x):
                return self.a(self.b(x)) if self.swap else self.b(self.a(x))

        def work(context):
            model = Swapped(context.rank == 1)
            replica = DataParallel(model, context.group, bucket_bytes=36)
            (replica(torch.ones(1, 3)).sum() / 2).backward()
            replica.synchronize()
            return model.a.weight.grad, model.b.weight.grad

        first, second = run(work, 2, timeout=TIMEOUT)  # the launcher would report different collectives
        for mine, theirs in zip(first, second, strict=True):
            assert torch.equal(mine, theirs)


class TestTraffic:
    @pytest.mark.parametrize("bucket_bytes", [None, 100, 10**6])
    def test_predicted_is_counted(self, bucket_bytes):
        def work(context, make_model, total_loss, bucket_bytes):
            model, x, y = make_model("gpt", torch.float32)
            if bucket_bytes is None:
                with Traffic() as traffic:
                    total_loss(model, x, y)[0].backward()
                    all_reduce_gradients(model, context.group)
                return traffic.messages["all_reduce"], traffic.bytes["all_reduce"]
            replica = DataParallel(model, context.group, bucket_bytes=bucket_bytes)
            with Traffic() as traffic:
                total_loss(replica, x, y)[0].backward()
                replica.synchronize()
            return traffic.messages["all_reduce"], traffic.bytes["all_reduce"]

        model = make_model("gpt", torch.float32)[0]
        predicted = predict_traffic(model.parameters(), bucket_bytes=bucket_bytes)
        assert predicted.bytes == 4 * sum(p.numel() for p in model.parameters())
        counted = run(work, 2, make_model, total_loss, bucket_bytes, timeout=TIMEOUT, check=False)
        assert counted == [tuple(predicted)] * 2

    def test_a_tied_parameter_counts_once_and_a_frozen_one_not_at_all(self):
        model = Tangled().double()
        trained = 7 * 5 + 5 + 5 * 5 + 5 + 5 + 5 * 5 + 5 + 2 * 11 + 11 + 5 * 3 + 3  # `again` has only a bias of its own
        assert predict_traffic(model.parameters()) == (11, 8 * trained)
        assert predict_traffic([*model.parameters(), model.square.weight]) == (11, 8 * trained)

    def test_every_kind_of_call_and_those_of_torch_itself(self):
        def work(context):
            x, other = torch.ones(3), 1 - context.rank
            with Traffic() as traffic:
                dist.all_reduce(x, group=context.group)
                dist.all_gather([torch.empty(3), torch.empty(3)], x, group=context.group)
                dist.broadcast(x.half(), group=context.group, group_src=0)
                if context.rank:
                    dist.send(x, group=context.group, group_dst=other)
                else:
                    dist.recv(x, group=context.group, group_src=other)
                dist.barrier(group=context.group)
            model = nn.parallel.DistributedDataParallel(nn.Linear(5, 2), process_group=context.group)
            with Traffic() as theirs:
                model(torch.ones(1, 5)).sum().backward()
            return traffic.calls, theirs.calls, traffic.bytes["all_gather"]

        first, second = run(work, 2, timeout=TIMEOUT, check=False)
        both = [("all_reduce", 12), ("all_gather", 12), ("broadcast", 6)]
        assert first[0][:4] == [*both, ("recv", 12)]
        assert second[0][:4] == [*both, ("send", 12)]
        assert first[0][4][0] == "barrier"
        assert first[1] == second[1] == [("all_reduce", 48)]
        assert first[2] == 12

    def test_ring_bytes(self):
        assert [ring_bytes("all_reduce", 100, p) for p in (1, 2, 5)] == [0, 100, 160]
        assert ring_bytes("all_gather", 100, 5) == 400
        assert ring_bytes("all_reduce", 100, 5) == ring_bytes("reduce_scatter", 100, 5) + ring_bytes(
            "all_gather", 20, 5
        )
        with pytest.raises(ValueError, match="world_size must be at least 1, got 0"):
            ring_bytes("all_reduce", 1, 0)
        with pytest.raises(ValueError, match="name must be one of all_reduce, all_gather, reduce_scatter, got 'send'"):
            ring_bytes("send", 1, 2)


class TestBuckets:
    def test_by_hand(self):
        assert assign_buckets([10, 10, 10], 20) == [[2, 1], [0]]
        assert assign_buckets([10, 99, 10], 20) == [[2], [1], [0]]
        assert assign_buckets([], 20) == []
        assert assign_buckets([10, 10, 10, 10], 20, ["a", "b", "a", "b"]) == [[3, 1], [2, 0]]

    def test_every_parameter_once_within_the_limit_last_first(self):
        generator = torch.Generator().manual_seed(1)
        for _ in range(200):
            sizes = torch.randint(1, 50, (17,), generator=generator).tolist()
            limit = int(torch.randint(1, 120, (), generator=generator))
            groups = assign_buckets(sizes, limit)
            assert [n for group in groups for n in group] == list(reversed(range(17)))
            for group, following in zip(groups, [*groups[1:], None], strict=True):
                assert sum(sizes[n] for n in group) <= limit or len(group) == 1
                if following:  # it could not have taken one more
                    assert sum(sizes[n] for n in [*group, following[0]]) > limit

    def test_dtypes_stay_apart_and_views_share_memory(self):
        parameters = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(5, dtype=torch.float64))]
        buckets = make_buckets(parameters, 10**6)
        assert [bucket.flat.dtype for bucket in buckets] == [torch.float64, torch.float32]
        bucket = Bucket(0, parameters[:1])
        parameters[0].grad = torch.arange(6.0).view(3, 2).T  # not contiguous
        bucket.fill()
        assert bucket.flat.tolist() == [0, 2, 4, 1, 3, 5]
        assert bucket.views[0][1].tolist() == [1, 3, 5]
        parameters[0].grad = None
        bucket.fill()
        assert bucket.flat.tolist() == [0] * 6

    def test_errors(self):
        with pytest.raises(ValueError, match="limit must be at least 1 byte, got 0"):
            assign_buckets([1], 0)
        with pytest.raises(ValueError, match="kinds must be as many as sizes, got 1 and 2"):
            assign_buckets([1, 2], 5, ["a"])


class TestErrors:
    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ("unused", r"no gradient on this rank for 1.weight, 1.bias: freeze what is never used .*find_unused=True"),
            ("twice", r"a second backward pass before synchronize\(\).*no_sync"),
            ("kept", r"added to that of the last step, which is a sum over ranks already: call zero_grad\(\)"),
            ("early", r"called before synchronize\(\), which must follow the backward pass"),
            ("frozen", r"no parameter that requires a gradient: there is nothing to train"),
            ("nobody", r"count is 0 on every rank"),
            ("shape", r"loss_sum must be one number and count ≥ 0, got shape \(3,\) and 2"),
        ],
    )
    def test_what_can_go_wrong_says_so(self, what, message):
        def work(context, what):
            model, x = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), torch.ones(2, 3)
            if what == "nobody":
                global_mean(torch.tensor(0.0), 0, context.group)
            if what == "shape":
                global_mean(torch.ones(3), 2, context.group)
            if what == "frozen":
                model.requires_grad_(False)
            replica = DataParallel(model, context.group)
            loss = (model[0] if what == "unused" else replica)(x).sum()
            loss.backward(retain_graph=True)
            if what == "twice":
                loss.backward()
            if what == "early":
                replica(x)
            replica.synchronize()
            replica(x).sum().backward()

        with pytest.raises(WorkerError, match=message):
            run(work, 2, what, timeout=TIMEOUT)

    def test_a_gradient_may_be_accumulated_again_after_zero_grad(self):
        def work(context):
            model, x = nn.Linear(3, 2), torch.ones(2, 3)
            replica = DataParallel(model, context.group)
            found = []
            for _ in range(2):
                model.zero_grad()
                with replica.no_sync():
                    replica(x).sum().backward()
                replica(x).sum().backward()
                replica.synchronize()
                found.append(model.weight.grad[0, 0].item())
            return found

        assert run(work, 2, timeout=TIMEOUT) == [[8.0, 8.0]] * 2  # 2 ranks · 2 passes · 2 rows
