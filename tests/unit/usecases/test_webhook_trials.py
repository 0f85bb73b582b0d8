"""The threads for receivers that are tried out: so many at once, the others in turn, each once."""

from __future__ import annotations

import threading

import pytest

from shared.domain.lanes import Pace
from shared.usecases.stopping import Stopping
from shared.usecases.webhook_trials import Trials

SECONDS = 10.0
MINE, THEIRS = "acct_mine", "acct_theirs"


class Work:
    """Holds each lane until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.changed = threading.Condition()
        self.let_go = threading.Event()

    def __call__(self, lane_id: str) -> None:
        with self.changed:
            self.begun.append(lane_id)
            self.changed.notify_all()
        assert self.let_go.wait(SECONDS)

    def wait_for(self, count: int) -> list[str]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) >= count, SECONDS)
            return list(self.begun)


def begin(trials: Trials, work: Work, *lanes: str, pace: Pace = Pace.SLOW) -> list[threading.Thread]:
    threads = [
        threading.Thread(target=trials.run, args=(lane, pace, work), kwargs={"account_id": MINE}) for lane in lanes
    ]
    for thread in threads:
        thread.start()
    return threads


def test_as_many_as_there_are_places_are_at_work_and_the_others_take_their_turn_once() -> None:
    trials, work = Trials(2), Work()
    threads = begin(trials, work, "a", "b")
    assert sorted(work.wait_for(2)) == ["a", "b"]
    for lane in ("c", "d", "c", "d", "e"):
        trials.run(lane, Pace.SLOW, work, account_id=MINE)  # returns at once: there is no place
    assert (len(work.begun), trials.waiting()) == (2, 3)
    work.let_go.set()
    for thread in threads:
        thread.join(SECONDS)
    assert sorted(work.begun[2:]) == ["c", "d", "e"]
    assert trials.waiting() == 0


def test_accounts_take_turns_so_many_receivers_of_one_delay_anothers_by_one() -> None:
    trials, work = Trials(1), Work()
    threads = begin(trials, work, "first")
    work.wait_for(1)
    for lane in ("mine-1", "mine-2", "mine-3"):
        trials.run(lane, Pace.SLOW, work, account_id=MINE)
    for lane in ("theirs-1", "theirs-2"):
        trials.run(lane, Pace.SLOW, work, account_id=THEIRS)
    work.let_go.set()
    threads[0].join(SECONDS)
    assert work.begun == ["first", "mine-1", "theirs-1", "mine-2", "theirs-2", "mine-3"]


def test_slow_receivers_take_no_place_of_new_ones() -> None:
    trials, work = Trials(1), Work()
    threads = begin(trials, work, "slow") + begin(trials, work, "new", pace=Pace.NEW)
    assert sorted(work.wait_for(2)) == ["new", "slow"]
    work.let_go.set()
    for thread in threads:
        thread.join(SECONDS)


def test_work_that_fails_leaves_its_place_to_others() -> None:
    trials = Trials(1)
    done: list[str] = []

    def fail(lane_id: str) -> None:
        raise ValueError(lane_id)

    with pytest.raises(ValueError, match="a"):
        trials.run("a", Pace.NEW, fail, account_id=MINE)
    trials.run("b", Pace.NEW, done.append, account_id=MINE)
    assert done == ["b"]


def test_a_process_that_is_to_end_begins_none_of_those_that_wait() -> None:
    stopping = Stopping()
    trials, work = Trials(1, stopping), Work()
    threads = begin(trials, work, "a")
    work.wait_for(1)
    trials.run("b", Pace.SLOW, work, account_id=MINE)
    stopping.ask()
    work.let_go.set()
    threads[0].join(SECONDS)
    assert work.begun == ["a"]
