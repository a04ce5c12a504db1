"""Schedules as data, their simulation, and what is read off it: against formulas, torch's schedules and brute force."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.parallel.schedules import (
    Action,
    Schedule,
    gpipe,
    idle_formula,
    interleaved,
    naive,
    one_forward_one_backward,
)
from lmcore.parallel.timeline import Event, diagram, idle_share, in_flight, makespan, messages, simulate

pytestmark = pytest.mark.timeout(60)
ranks_and_batches = st.tuples(st.integers(1, 6), st.integers(1, 9))
with_chunks = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 4))


def exact(schedule, forward=1, backward=2, message=0):
    """The idle share as a fraction."""
    events = simulate(schedule, forward=Fraction(forward), backward=Fraction(backward), message=Fraction(message))
    return idle_share(events, schedule.ranks)


class TestByHand:
    def test_gpipe(self):
        assert diagram(simulate(gpipe(2, 3), forward=1, backward=2), 2) == (
            "rank 0 | F0 F1 F2 .  .  .  B0 -- B1 -- B2 --\nrank 1 | .  F0 F1 F2 B0 -- B1 -- B2 -- .  ."
        )

    def test_one_forward_one_backward(self):
        assert diagram(simulate(one_forward_one_backward(2, 3), forward=1, backward=1), 2) == (
            "rank 0 | F0 F1 .  B0 F2 B1 .  B2\nrank 1 | .  F0 B0 F1 B1 F2 B2 ."
        )

    def test_interleaved(self):
        picture = diagram(simulate(interleaved(2, 2, 2), forward=1, backward=1), 2)
        assert picture == (
            "rank 0 | F0a F1a F0b F1b .   B0b .   B1b B0a B1a\nrank 1 | .   F0a F1a F0b B0b F1b B1b B0a B1a ."
        )

    def test_a_message_delays_the_next_rank_and_not_the_sender(self):
        ends = {str(e.action): e.end for e in simulate(gpipe(2, 2), forward=[3, 5], backward=[7, 11], message=2)}
        # F0@1 from 3 + 2; B0@1 after both of rank 1's forward passes, at 15; B0@0 from 26 + 2
        assert ends == {
            "F0@0": 3, "F1@0": 6, "F0@1": 10, "F1@1": 15, "B0@1": 26, "B1@1": 37, "B0@0": 35, "B1@0": 46,
        }  # fmt: skip

    def test_a_slow_stage_holds_up_all(self):
        assert makespan(simulate(one_forward_one_backward(3, 7), forward=[1, 5, 1], backward=[1, 5, 1])) == 1 + 70 + 1

    def test_times_may_be_zero(self):
        assert makespan(simulate(gpipe(2, 2), forward=0, backward=1)) == 3


class TestFormulas:
    @given(ranks_and_batches, st.integers(0, 5), st.integers(1, 7))
    def test_idle_share_and_memory(self, numbers, forward, backward):
        ranks, batches = numbers
        for schedule, peak in (
            (gpipe(ranks, batches), [batches] * ranks),
            (one_forward_one_backward(ranks, batches), [min(ranks - rank, batches) for rank in range(ranks)]),
        ):
            assert exact(schedule, forward, backward) == idle_formula(ranks, batches)
            assert in_flight(schedule) == peak
            assert messages(schedule) == 2 * batches * (ranks - 1)

    @given(with_chunks)
    def test_interleaved(self, numbers):
        ranks, rounds, chunks = numbers
        batches = ranks * rounds
        schedule = interleaved(ranks, batches, chunks)
        assert exact(schedule) == exact(schedule, 1, 1) == idle_formula(ranks, batches, chunks)
        assert messages(schedule) == (2 * batches * (ranks * chunks - 1) if ranks > 1 else 0)
        if chunks > 1:
            ahead = [2 * (ranks - rank - 1) + (chunks - 1) * ranks for rank in range(ranks)]
            assert in_flight(schedule) == [min(n + 1, batches * chunks) for n in ahead]

    @given(ranks_and_batches, st.integers(0, 3))
    def test_no_schedule_is_faster_than_the_longest_chain(self, numbers, message):
        ranks, batches = numbers
        for schedule in (gpipe(ranks, batches), one_forward_one_backward(ranks, batches)):
            length = makespan(simulate(schedule, forward=1, backward=2, message=message))
            assert length >= 3 * batches + (ranks - 1) * (3 + 2 * message)
            if message == 0:
                assert length == 3 * (batches + ranks - 1)

    @given(ranks_and_batches)
    def test_what_is_needed_comes_before_and_nobody_does_two_things_at_once(self, numbers):
        schedule = one_forward_one_backward(*numbers)
        events = simulate(schedule, forward=1, backward=2, message=1)
        end = {event.action: event.end for event in events}
        for event in events:
            for need in event.action.needs(schedule.stages):
                assert end[need] + (need.stage != event.action.stage) <= event.start
        for rank in range(schedule.ranks):
            own = [event for event in events if event.rank == rank]
            assert [event.action for event in own] == list(schedule.actions[rank])
            assert all(a.end <= b.start for a, b in zip(own[:-1], own[1:], strict=True))

    def test_naive_is_one_rank_at_a_time(self):
        assert naive(5) == gpipe(5, 1) == one_forward_one_backward(5, 1)
        assert exact(naive(5)) == Fraction(4, 5)

    def test_messages_that_take_time_cost_1f1b_more_than_gpipe(self):
        slow = [makespan(simulate(s, message=3)) for s in (gpipe(4, 8), one_forward_one_backward(4, 8))]
        assert slow[0] < slow[1]


@pytest.mark.parametrize(("ranks", "batches", "chunks"), [(2, 4, 2), (2, 6, 3), (4, 4, 2), (3, 9, 4)])
def test_torch_has_the_same_order(ranks, batches, chunks):
    from torch.distributed.pipelining import ScheduleInterleaved1F1B  # here: it takes seconds to import

    schedule = object.__new__(ScheduleInterleaved1F1B)  # the order alone needs no process group
    schedule.n_local_stages, schedule.pp_group_size, schedule._n_microbatches = chunks, ranks, batches
    schedule.microbatches_per_round = ranks
    names = {"F": "FORWARD", "B": "FULL_BACKWARD"}
    for rank, own in enumerate(interleaved(ranks, batches, chunks).actions):
        order = [action for action in schedule._calculate_single_rank_operations(rank) if action is not None]
        theirs = [(a.computation_type.name, a.microbatch_index, a.stage_index) for a in order]
        assert theirs == [(names[a.kind], a.microbatch, a.stage) for a in own]


F, B = (lambda m, s, kind=kind: Action(kind, m, s) for kind in "FB")


class TestErrors:
    @pytest.mark.parametrize(
        ("actions", "message"),
        [
            (((F(0, 0),), (F(0, 1), B(0, 1))), "rank 0 misses B0@0"),
            (((F(0, 0), B(0, 0), F(0, 1)), (F(0, 1), B(0, 1))), "rank 0 has no business with F0@1"),
            (((F(0, 0), F(0, 0), B(0, 0)), (F(0, 1), B(0, 1))), "rank 0 repeats F0@0"),
            (((F(0, 0), B(0, 0)),), "actions are of 1 ranks, must be of 2"),
        ],
    )
    def test_incomplete_schedules(self, actions, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            Schedule(ranks=2, stages=2, microbatches=1, actions=actions)

    def test_a_deadlock_names_who_waits_for_what(self):
        # Each rank wants to receive before it sends: rank 0 the gradient, rank 1 the second activation.
        crossed = Schedule(
            ranks=2,
            stages=2,
            microbatches=2,
            actions=((F(0, 0), B(0, 0), F(1, 0), B(1, 0)), (F(0, 1), F(1, 1), B(0, 1), B(1, 1))),
        )
        message = "deadlock: rank 0 at B0@0 waits for B0@1; rank 1 at F1@1 waits for F1@0"
        with pytest.raises(ValueError, match=re.escape(message)):
            simulate(crossed)

    def test_numbers(self):
        with pytest.raises(ValueError, match="ranks must be a whole number of at least 1, got 0"):
            gpipe(0, 3)
        with pytest.raises(ValueError, match=r"microbatches must be a whole number of at least 1, got 2\.0"):
            one_forward_one_backward(2, 2.0)
        with pytest.raises(ValueError, match="chunks must be a whole number of at least 1, got True"):
            idle_formula(2, 3, True)
        with pytest.raises(ValueError, match="with chunks, microbatches = 5 must be a multiple of ranks = 2"):
            interleaved(2, 5, 2)
        with pytest.raises(ValueError, match="stages = 3 must be a multiple of ranks = 2"):
            Schedule(ranks=2, stages=3, microbatches=1, actions=((), ()))

    def test_times(self):
        with pytest.raises(ValueError, match="forward must be one time ≥ 0 or 2, one for each stage"):
            simulate(gpipe(2, 2), forward=[1, 2, 3])
        with pytest.raises(ValueError, match="backward must be one time ≥ 0"):
            simulate(gpipe(2, 2), backward=-1)
        with pytest.raises(ValueError, match="message must be at least 0, got -1"):
            simulate(gpipe(2, 2), message=-1)
        with pytest.raises(ValueError, match="whole numbers"):
            diagram([Event(0, 0.5, 0, F(0, 0))], 1)
