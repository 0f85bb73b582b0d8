"""A driver around another one, of which a test changes some verbs."""

from __future__ import annotations

from typing import Generic, Self, TypeVar

from shared.usecases.driver import Driver

Inner = TypeVar("Inner", bound=Driver)


class WrappedDriver(Generic[Inner]):
    """Every verb is the inner driver's. Fenced, it stays itself, and the inner one knows no number."""

    def __init__(self, inner: Inner) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def fenced(self, _fence: int) -> Self:
        return self
