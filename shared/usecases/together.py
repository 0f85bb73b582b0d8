"""Several threads that want the same kind of thing at the same moment get it by one deed (a group commit)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[Q, A]):
    """One at a time serves; whoever asks meanwhile waits, and the first of them then serves all of them at once.

    So who is alone waits for nobody, and under load a transaction's price is shared by all who came during the last.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Q, Future[A]]] = deque()
        self._serving = threading.Lock()

    def ask(self, question: Q, serve: Callable[[Sequence[Q]], Sequence[A]]) -> A:
        """The answer to the question; ``serve`` answers several, in their order, whoever asked them.

        When it raises, each question is served by itself and gets its own answer or error.
        """
        mine: Future[A] = Future()
        self._waiting.append((question, mine))
        with self._serving:
            if not mine.done():
                _serve_all(self._take(), serve)
        return mine.result()

    @property
    def waiting(self) -> int:
        """How many have come and are not being served yet."""
        return len(self._waiting)

    def _take(self) -> list[tuple[Q, Future[A]]]:
        return [self._waiting.popleft() for _ in range(len(self._waiting))]


def _serve_all(asked: Sequence[tuple[Q, Future[A]]], serve: Callable[[Sequence[Q]], Sequence[A]]) -> None:
    """As :func:`_serve`; nobody goes on waiting when the thread that serves is ended meanwhile."""
    try:
        _serve(asked, serve)
    except BaseException as ending:
        for _, future in asked:
            if not future.done():
                future.set_exception(ending)
        raise


def _serve(asked: Sequence[tuple[Q, Future[A]]], serve: Callable[[Sequence[Q]], Sequence[A]]) -> None:
    try:
        answered = list(zip(asked, serve([question for question, _ in asked]), strict=True))
    except Exception as error:  # noqa: BLE001 - raised again in the thread that asked
        if len(asked) == 1:
            asked[0][1].set_exception(error)
            return
        for each in asked:
            _serve([each], serve)
        return
    for (_, future), answer in answered:
        future.set_result(answer)
