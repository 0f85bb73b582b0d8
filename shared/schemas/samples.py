"""The shape of a sample."""

from __future__ import annotations

from shared.schemas.base import Answer, text


class SampleOut(Answer):
    """What a field of the form looks like; useless on purpose."""

    kind = text("certificate, private_key or ca.")
    pem = text("PEM text.")
