"""A group commit: alone at once, many at one stroke, each with its own answer, error or end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from shared.usecases.together import Together
from tests.support.stack import wait_until

MANY = 8


class Serving:
    """Doubles numbers, remembers which came at one stroke, and holds the first stroke until it is let go."""

    def __init__(self, *, refuse: Callable[[Sequence[int]], BaseException | None] = lambda _: None) -> None:
        self.strokes: list[list[int]] = []
        self.let_go = threading.Event()
        self._refuse = refuse

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.strokes.append(list(numbers))
        if len(self.strokes) == 1:
            assert self.let_go.wait(30)
        error = self._refuse(numbers)
        if error is not None:
            raise error
        return [2 * each for each in numbers]


def test_who_is_alone_is_served_at_once() -> None:
    serving = Serving()
    serving.let_go.set()
    together: Together[int, int] = Together()
    assert [together.ask(each, serving) for each in (1, 2)] == [2, 4]
    assert serving.strokes == [[1], [2]]


def test_who_comes_meanwhile_is_served_at_one_stroke_each_with_its_own_answer() -> None:
    serving = Serving()
    answers = all_at_once(serving)
    assert [each.result() for each in answers] == [2 * each for each in range(MANY)]
    assert [sorted(each) for each in serving.strokes] == [[0], list(range(1, MANY))]


def test_one_that_cannot_be_served_fails_alone() -> None:
    serving = Serving(refuse=lambda numbers: ValueError("three") if 3 in numbers else None)
    answers = all_at_once(serving)
    with pytest.raises(ValueError, match="three"):
        answers[3].result()
    assert [each.result() for each in answers if each is not answers[3]] == [0, 2, 4, 8, 10, 12, 14]


def test_nobody_waits_for_ever_when_the_serving_thread_is_ended() -> None:
    serving = Serving(refuse=lambda numbers: SystemExit(1) if len(numbers) > 1 else None)
    answers = all_at_once(serving)
    assert answers[0].result() == 0
    for each in answers[1:]:
        assert isinstance(each.exception(timeout=30), SystemExit)


def test_nobody_waits_for_ever_when_the_serving_thread_is_ended_while_it_serves_each_by_itself() -> None:
    def refuse(numbers: Sequence[int]) -> BaseException | None:
        if len(numbers) > 1:
            return ValueError("not all of you")
        return SystemExit(1) if len(serving.strokes) == 4 else None

    serving = Serving(refuse=refuse)
    answers = all_at_once(serving)
    assert all(each.done() for each in answers)
    assert sum(isinstance(each.exception(), SystemExit) for each in answers) >= MANY - 2


def test_an_answer_too_few_is_an_error_for_everybody_and_keeps_nobody_waiting() -> None:
    together: Together[int, int] = Together()
    with pytest.raises(ValueError, match="shorter"):
        together.ask(1, lambda _: [])


def all_at_once(serving: Serving) -> list[Future[int]]:
    """The first is being served; the others come meanwhile; then it is let go."""
    together: Together[int, int] = Together()
    with ThreadPoolExecutor(MANY) as threads:
        first = threads.submit(together.ask, 0, serving)
        wait_until(lambda: bool(serving.strokes), seconds=30, otherwise=lambda: "nobody is served")
        others = [threads.submit(together.ask, each, serving) for each in range(1, MANY)]
        wait_until(lambda: together.waiting == MANY - 1, seconds=30, otherwise=lambda: together.waiting)
        serving.let_go.set()
    return [first, *others]
