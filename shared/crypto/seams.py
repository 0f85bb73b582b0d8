"""The seam to the X.509 library: whatever it raises or warns becomes one exception of ours."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

if TYPE_CHECKING:
    from collections.abc import Iterator

_RUST_PANIC: Final = "PanicException"
"""A panic in the library's Rust code: derives from ``BaseException`` and cannot be imported."""

_QUIET: Final = threading.RLock()
"""``warnings.catch_warnings`` changes process-wide state, so only one thread at a time may be inside."""


class Unreadable(Exception):
    """The library could not, or would not, read or verify this. Carries no content."""


class UnsupportedContent(Unreadable):
    """The library understands the structure, but not the algorithm."""


class WrongSignature(Unreadable):
    """The signature does not verify."""


@contextmanager
def library_call() -> Iterator[None]:
    """Run calls into the library.

    The cause is dropped on purpose: its text is the library's business and may one day quote what was parsed.

    Raises:
        WrongSignature: the signature does not verify.
        UnsupportedContent: an algorithm that the library does not know.
        Unreadable: anything else that it raised, a panic of its Rust code included.
    """
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except InvalidSignature:
            raise WrongSignature from None
        except UnsupportedAlgorithm:
            raise UnsupportedContent from None
        except Exception:  # noqa: BLE001 - parsers raise what they like; DESIGN §5: all of it becomes a finding
            raise Unreadable from None
        except BaseException as error:
            if type(error).__name__ == _RUST_PANIC:
                raise Unreadable from None
            raise
