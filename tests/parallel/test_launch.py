"""The launcher: values by rank, every kind of fault with a clear error, and no process left behind."""

import _thread
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from dataclasses import FrozenInstanceError

import psutil
import pytest
import torch
import torch.distributed as dist

from lmcore.parallel import launch, pool
from lmcore.parallel.channel import ProcessChannel
from lmcore.parallel.device import Place, choose_place, threads_for
from lmcore.parallel.launch import close, run
from lmcore.parallel.messages import CollectiveMismatch, WorkerDied, WorkerError, WorkerTimeout, mismatch
from lmcore.parallel.ring import ring_all_reduce
from lmcore.parallel.sending import importable
from lmcore.parallel.workers import process_group

pytestmark = pytest.mark.timeout(60)


def add_up(context, start):
    """Every rank's number and 10, added up."""
    x = torch.tensor([start + context.rank], device=context.device)
    dist.all_reduce(x, group=context.group)
    return x.item()


def who(context):
    """What a worker knows of itself."""
    return context.rank, context.world_size, os.getpid(), torch.get_num_threads(), dist.get_rank(context.group)


def workers(*sizes):
    """Processes that serve as workers; of pools of these sizes only."""
    pools = [pool for pool in launch._pools.values() if not sizes or pool.world_size in sizes]
    return [process.pid for pool in pools for process in pool.processes]


def is_there(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_gone(pids, seconds=10):
    """Require that the processes end in time."""
    end = time.monotonic() + seconds
    while any(map(is_there, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not [pid for pid in pids if is_there(pid)]


class TestValues:
    @pytest.mark.parametrize("n", [1, 2, 4])
    def test_come_back_by_rank(self, n):
        assert run(add_up, n, 10) == [10 * n + n * (n - 1) // 2] * n
        found = run(who, n)
        assert [rank for rank, *_ in found] == [rank for *_, rank in found] == list(range(n))
        assert {size for _, size, *_ in found} == {n}
        assert len({pid for _, _, pid, *_ in found} | {os.getpid()}) == n + 1

    def test_workers_are_kept_and_threads_are_shared_out(self):
        first, second = run(who, 2), run(who, 2)
        assert first == second
        assert {threads for *_, threads, _ in first} == {max(1, torch.get_num_threads() // 2)}

    def test_functions_of_every_kind(self):
        base = 7

        def local(context, x):
            return base + x * context.rank

        class Scale:
            def __call__(self, context):
                return base * context.rank

        assert run(local, 2, 3) == [7, 10]
        assert run(lambda context: context.rank, 2) == [0, 1]
        assert run(functools.partial(local, x=5), 2) == [7, 12]
        assert run(Scale(), 2) == [0, 7]

    def test_a_module_that_no_import_finds(self):
        assert importable(textwrap)
        module = type(textwrap)("nowhere_to_be_found")
        exec("def helper(x): return 2 * x\ndef work(context): return helper(context.rank)", vars(module))
        sys.modules[module.__name__] = module
        try:
            assert not importable(module)
            assert run(module.work, 2) == [0, 2]
        finally:
            del sys.modules[module.__name__]

    def test_tensors_and_classes_come_back(self):
        class Pair:
            def __init__(self, a, b):
                self.a, self.b = a, b

        pairs = run(lambda context: Pair(torch.full((3,), context.rank), {"x": torch.ones(2, dtype=torch.bfloat16)}), 2)
        assert all(isinstance(pair, Pair) for pair in pairs)
        assert pairs[1].a.tolist() == [1, 1, 1]
        assert pairs[0].b["x"].dtype == torch.bfloat16

    def test_a_run_does_not_depend_on_the_runs_before(self):
        def draw(context):
            torch.set_num_threads(1)
            return torch.rand(3).tolist()

        assert run(draw, 2) == run(draw, 2)
        assert run(who, 1)[0][3] == torch.get_num_threads()

    def test_prints_are_shown_by_rank(self, capsys):
        def speak(context):
            if context.rank == 0:
                time.sleep(0.1)  # rank 1 prints first
            print(f"I am {context.rank},\nreally")

        run(speak, 2)
        run(speak, 2)
        out = "[rank 0] I am 0,\n[rank 0] really\n[rank 1] I am 1,\n[rank 1] really\n"
        assert capsys.readouterr().out == 2 * out

    def test_where_there_is_no_fork_server(self, monkeypatch):
        monkeypatch.setattr(pool, "START_METHOD", "spawn")  # as on macOS and Windows
        close()
        base = 5
        try:
            assert run(lambda context: base + add_up(context, 10), 2) == [26, 26]
        finally:
            close()

    def test_the_context_cannot_be_changed(self):
        def change(context):
            context.rank = 0

        with pytest.raises(WorkerError, match="FrozenInstanceError") as caught:
            run(change, 2)
        assert FrozenInstanceError.__name__ in str(caught.value.__cause__)


class TestFaults:
    def test_an_exception_names_its_rank_and_shows_its_line(self):
        def work(context):
            if context.rank == 1:
                raise KeyError("no such word")  # the line that must be shown
            dist.all_reduce(torch.ones(3), group=context.group)

        run(who, 2)
        pids = workers(2)
        with pytest.raises(WorkerError, match="rank 1 raised KeyError: 'no such word'") as caught:
            run(work, 2)
        assert caught.value.rank == 1
        assert "the line that must be shown" in str(caught.value.__cause__)
        assert "workers.py" not in str(caught.value.__cause__)  # the launcher's own frames help nobody
        assert_gone(pids)
        assert run(add_up, 2, 10) == [21, 21]

    def test_when_all_ranks_raise_the_first_is_named(self):
        with pytest.raises(WorkerError, match="rank 0 raised ZeroDivisionError"):
            run(lambda context: 1 / 0, 2)

    def test_a_worker_that_leaves(self):
        with pytest.raises(WorkerError, match="rank 0 raised SystemExit: 3"):
            run(lambda context: sys.exit(3), 2)
        with pytest.raises(WorkerDied, match="rank 1 ended with exit code 5"):
            run(lambda context: os._exit(5) if context.rank else dist.barrier(), 2)

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no signals")
    def test_a_worker_that_is_killed(self):
        def work(context):
            if context.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            dist.all_reduce(torch.ones(3), group=context.group)

        with pytest.raises(WorkerDied, match="rank 1 was ended by SIGKILL") as caught:
            run(work, 2)
        assert caught.value.rank == 1
        os.kill(run(who, 2)[0][2], signal.SIGKILL)  # between two runs
        time.sleep(0.1)
        assert run(add_up, 2, 10) == [21, 21]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
    def test_a_worker_that_is_killed_while_its_child_lives_on(self):
        def work(context):
            if context.rank == 1:
                if os.fork() == 0:  # the child keeps the connection to the launcher open
                    time.sleep(3)
                    os._exit(0)
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(30)

        with pytest.raises(WorkerDied, match="rank 1 was ended by SIGKILL"):
            run(work, 2, timeout=20)

    def test_time_out_names_the_ranks_and_what_they_are_in(self):
        def forgetful(context):
            if context.rank != 2:
                dist.all_reduce(torch.ones(3), group=context.group)

        with pytest.raises(WorkerTimeout, match=r"3 of 4 ranks not done after 1.5 s") as caught:
            run(forgetful, 4, timeout=1.5)
        assert caught.value.ranks == [0, 1, 3]
        assert "rank 1 in all_reduce, line" in str(caught.value)
        assert "of forgetful: dist.all_reduce(torch.ones(3)" in str(caught.value)
        assert str(caught.value).endswith("done: 2")

    def test_time_out_of_a_loop_and_of_a_receive(self):
        def busy(context):
            while context.rank == 1:
                time.sleep(0.01)

        with pytest.raises(WorkerTimeout, match=r"1 of 2 .*rank 1 in line \d+ of busy"):
            run(busy, 2, timeout=1)
        with pytest.raises(WorkerTimeout, match=r"rank 0 in recv, .* rank 1 in recv"):
            run(lambda context: dist.recv(torch.ones(3), src=1 - context.rank), 2, timeout=1)

    def test_collectives_in_another_order(self):
        def work(context):
            x = torch.ones(3, 5)
            dist.all_reduce(x, group=context.group)
            first, second = (dist.all_reduce, dist.barrier) if context.rank else (dist.barrier, dist.all_reduce)
            for call in (first, second):
                call(x) if call is dist.all_reduce else call()

        with pytest.raises(CollectiveMismatch) as caught:
            run(work, 2, timeout=10)
        assert "rank 0 barrier" in str(caught.value)
        assert "rank 1 all_reduce of 3×5 Float (call 2)" in str(caught.value)

    @pytest.mark.parametrize(
        "make", [lambda r: torch.ones(3 + r), lambda r: torch.ones(3).to([torch.half, torch.int][r])]
    )
    def test_shapes_and_dtypes_that_do_not_fit(self, make):
        with pytest.raises(CollectiveMismatch, match=r"rank 0 all_reduce of 3 .*rank 1 all_reduce of"):
            run(lambda context: dist.all_reduce(make(context.rank), group=context.group), 2, timeout=10)

    def test_without_the_comparison_a_wrong_order_still_ends(self):
        def work(context):
            if context.rank:
                dist.all_reduce(torch.ones(3), group=context.group)
            else:
                dist.recv(torch.ones(3), src=1)

        with pytest.raises((WorkerTimeout, WorkerError)):
            run(work, 2, timeout=0.5, check=False)

    def test_what_cannot_be_sent(self):
        lock = threading.Lock()

        def take_lock(context):
            return lock

        with pytest.raises(TypeError, match="take_lock or its arguments cannot be sent to the workers"):
            run(take_lock, 2)
        with pytest.raises(WorkerError, match="rank 0 raised TypeError: what the function returned, a generator"):
            run(lambda context: (i for i in range(3)), 2)

    def test_arguments(self):
        with pytest.raises(TypeError, match="function must be a function, got int"):
            run(3, 2)
        for size in (0, -1, 2.0, True):
            with pytest.raises(ValueError, match="world_size must be a whole number of at least 1"):
                run(who, size)
        with pytest.raises(ValueError, match="timeout must be"):
            run(who, 2, timeout=0)
        with pytest.raises(ValueError, match="device='tpu' needs one such device for each of 2 workers"):
            run(who, 2, device="tpu")


class TestNobodyIsLeftBehind:
    def test_an_interrupt_ends_the_workers(self):
        run(who, 2)
        pids = workers(2)
        timer = threading.Timer(0.3, _thread.interrupt_main)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest-xdist's processes ignore interrupts
        try:
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                run(lambda context: time.sleep(30), 2)
            timer.join()
        finally:
            signal.signal(signal.SIGINT, before)
        assert_gone(pids)
        assert run(add_up, 2, 10) == [21, 21]

    def test_close(self):
        run(who, 2)
        pids = workers()
        assert pids
        close()
        assert_gone(pids)
        assert run(add_up, 2, 10) == [21, 21]

    @pytest.mark.skipif(os.name == "nt", reason="the system has no signals")
    def test_a_launcher_that_is_killed(self, tmp_path):
        script = tmp_path / "script.py"  # without `if __name__ == "__main__"`: no worker runs it a second time
        script.write_text(
            "import os, sys, time\n"
            "from lmcore.parallel.launch import run\n"
            "print(*run(lambda context: os.getpid(), 2), flush=True)\n"
            "run(lambda context: time.sleep(60), 2)\n"
        )
        with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as launcher:
            pids = [int(pid) for pid in launcher.stdout.readline().split()]
            assert len(pids) == 2
            time.sleep(0.2)
            everybody = [child.pid for child in psutil.Process(launcher.pid).children(recursive=True)]
            assert set(pids) <= set(everybody)
            launcher.kill()
            assert_gone(everybody)

    def test_a_script_that_ends_normally(self, tmp_path):
        script = tmp_path / "script.py"
        script.write_text(
            "import os\nfrom lmcore.parallel.launch import run\n"
            "def work(context):\n    return os.getpid()\n"
            "print(*run(work, 2))\n"
        )
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=50, check=True)
        assert done.stderr == ""
        assert_gone(map(int, done.stdout.split()))


def rank_script(tmp_path):
    """A script for torchrun that runs the same worker function."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch, torch.distributed as dist\n"
        "from lmcore.parallel.launch import from_environment\n"
        "def add_up(context, start):\n"
        "    x = torch.tensor([start + context.rank], device=context.device)\n"
        "    dist.all_reduce(x, group=context.group)\n"
        "    return x.item()\n"
        "with from_environment(timeout=20) as context:\n"
        "    value = add_up(context, 10)\n"
        "    open(f'{sys.argv[1]}/{context.rank}', 'w').write(str(value))\n"
        "assert not dist.is_initialized()\n"
    )
    return script


class TestTorchrun:
    def test_the_same_function(self, tmp_path):
        script = rank_script(tmp_path)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        subprocess.run([*command, str(script), str(tmp_path)], check=True, timeout=50, capture_output=True)
        assert [(tmp_path / name).read_text() for name in "01"] == ["21", "21"]

    def test_not_started_by_torchrun(self, monkeypatch):
        monkeypatch.delenv("RANK", raising=False)
        with pytest.raises(RuntimeError, match=r"RANK, .* not set .*torch.distributed.run"), launch.from_environment():
            pass

    def test_a_port_in_use(self, monkeypatch):
        with socket.socket() as taken:
            taken.bind(("", 0))
            taken.listen()
            names = {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1"}
            for name, value in (names | {"MASTER_PORT": taken.getsockname()[1]}).items():
                monkeypatch.setenv(name, str(value))
            with pytest.raises(RuntimeError, match=r"port \d+: .*RANK=0.*own rank"), launch.from_environment():
                pass

    def test_two_processes_with_the_same_rank(self):
        store = dist.HashStore()
        store.add("joined-0", 1)  # the other one was here first
        with pytest.raises(ValueError, match="two processes were started with rank 0: each of the 2 needs"):
            process_group(store, 0, 2, Place("cpu", "gloo"), 0, 5, check=False).__enter__()


class TestDevice:
    def test_cpu_where_there_are_too_few_accelerators(self):
        assert choose_place(10_000) == choose_place(1, "cpu") == Place("cpu", "gloo")
        assert Place("cpu", "gloo").device(3) == torch.device("cpu")

    @pytest.mark.parametrize(("kind", "count", "workers", "expected"), [
        ("cuda", 4, 4, Place("cuda", "nccl")),
        ("cuda", 4, 5, Place("cpu", "gloo")),
        ("mps", 1, 1, Place("cpu", "gloo")),  # torch has no collectives of its own for Apple's devices
    ])  # fmt: skip
    def test_one_accelerator_for_each_worker(self, monkeypatch, kind, count, workers, expected):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
        assert choose_place(workers) == expected
        if kind == "cuda":
            assert expected.device(2).type == expected.kind
            assert choose_place(3, "cuda").device(2) == torch.device("cuda:2")
            with pytest.raises(
                ValueError, match=r"device='cuda' needs one such device for each of 5 workers.* 4 of kind"
            ):
                choose_place(5, "cuda")

    def test_the_mixed_backends_way_of_writing_it(self):
        # What an accelerator gets is "cpu:gloo,cuda:nccl"; here there is only the first half to try.
        def work(context):
            dist.destroy_process_group()
            store = dist.FileStore(f"{folder}/store", 2)
            dist.init_process_group("cpu:gloo", store=store, rank=context.rank, world_size=2)
            return ring_all_reduce(ProcessChannel(context, dist.group.WORLD), torch.tensor([context.rank, 5])).tolist()

        with tempfile.TemporaryDirectory() as folder:
            assert run(work, 2) == [[1, 10], [1, 10]]

    def test_threads(self):
        assert threads_for(1) * 2 >= threads_for(2) >= 1


def test_a_mismatch_is_read_from_torchs_message_and_nothing_else_is():
    assert mismatch(["Connection closed by peer"]) == ""
