from __future__ import annotations

import traceback
import warnings

import pytest
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from shared.crypto.seams import Unreadable, UnsupportedContent, WrongSignature, library_call


class PanicException(BaseException):
    """Stands for the one that Rust code raises, which cannot be imported or provoked at will."""


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError("content"), Unreadable),
        (KeyError("content"), Unreadable),
        (OverflowError("content"), Unreadable),
        (PanicException("content"), Unreadable),
        (UnsupportedAlgorithm("content"), UnsupportedContent),
        (InvalidSignature("content"), WrongSignature),
    ],
)
def test_whatever_the_library_raises_is_ours_and_quotes_nothing(
    raised: BaseException, expected: type[Unreadable]
) -> None:
    with pytest.raises(Unreadable) as caught, library_call():
        raise raised

    assert caught.type is expected
    shown = traceback.format_exception_only(caught.value)
    assert "content" not in "".join(shown)
    assert caught.value.__suppress_context__


def test_an_interrupt_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt), library_call():
        raise KeyboardInterrupt


def test_warnings_of_the_library_neither_raise_nor_escape() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with library_call():
            warnings.warn("the serial number is negative", stacklevel=1)

    assert seen == []
