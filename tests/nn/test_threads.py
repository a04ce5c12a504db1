"""A part of the work for each thread: order, who works with how many threads, and that torch's number comes back."""

import threading

import pytest
import torch

from lmcore.nn.threads import map_in_threads


@pytest.fixture
def threads():
    """Two threads for torch, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_each_part_has_a_thread(threads):
    meeting = threading.Barrier(2, timeout=30)  # two must work at the same time to pass

    def work(part):
        meeting.wait()
        return part * part, torch.get_num_threads(), threading.get_ident()

    found = map_in_threads(work, [3, 5, 7, 11])
    assert [square for square, _, _ in found] == [9, 25, 49, 121]
    assert {inside for _, inside, _ in found} == {1}
    assert len({who for _, _, who in found}) == 2
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("parts", [[], [5]])
def test_one_part_is_done_as_usual(threads, parts):
    found = map_in_threads(lambda part: (part, torch.get_num_threads(), threading.get_ident()), parts)
    assert found == [(part, 2, threading.get_ident()) for part in parts]


def test_one_thread_does_all():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = map_in_threads(lambda part: threading.get_ident(), [3, 5, 7])
    finally:
        torch.set_num_threads(before)
    assert found == [threading.get_ident()] * 3


def test_an_error_comes_out_and_the_threads_come_back(threads):
    def work(part):
        raise ValueError(f"part {part}")

    with pytest.raises(ValueError, match="part 3"):
        map_in_threads(work, [3, 5])
    assert torch.get_num_threads() == 2
    assert map_in_threads(lambda part: part, [1, 2]) == [1, 2]


def test_another_thread_may_begin_meanwhile(threads):
    """torch's number for new threads is 1 for a while; it is 2 again when the work is done."""
    map_in_threads(lambda part: part, [1, 2])
    seen = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join(timeout=30)
    assert seen == [2]
