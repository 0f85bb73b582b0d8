"""Measuring two sides in one run, and printing them with their ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison: operations a second, one figure a round."""

    name: str
    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    def line(self, unit: str) -> str:
        low, high = min(self.rates), max(self.rates)
        return f"  {self.name:<44} {self.median:10.1f} {unit}   (min {low:.1f}, max {high:.1f})"


def compare(
    title: str, unit: str, ours: tuple[str, Callable[[], float]], bare: tuple[str, Callable[[], float]]
) -> None:
    """Run both sides in turn, three rounds after a warm-up; print medians and the median of the pairs' ratios.

    Each side's function does its work once and returns operations a second.
    """
    ours[1]()
    bare[1]()
    pairs = [(ours[1](), bare[1]()) for _ in range(3)]
    print(f"\n{title}")
    print(Side(name=ours[0], rates=tuple(pair[0] for pair in pairs)).line(unit))
    print(Side(name=bare[0], rates=tuple(pair[1] for pair in pairs)).line(unit))
    ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
    print(f"  ratio ours / bare: {ratio:.2f}")


def rate(count: int, work: Callable[[int], object], *, threads: int = 1) -> float:
    """``work(i)`` for i below ``count``; operations a second."""
    began = time.perf_counter()
    if threads == 1:
        for number in range(count):
            work(number)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(count)))
    return count / (time.perf_counter() - began)
