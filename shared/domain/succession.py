"""A certificate that was replaced: where the old one is still to be reckoned with, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from shared.domain.certificates import CertificateState
from shared.domain.rollout import DeploymentState, ServedState


class Lack(StrEnum):
    """What lacks for the new certificate to be served in the old one's place."""

    NOT_READY = "new_not_ready"
    """The new content is not there yet: being fetched from its service, or validated."""
    OLD_SERVED = "old_served"
    OLD_PRESENT = "old_present"
    """The region still holds the old one, and no listener shows it."""
    NEW_NOT_DEPLOYED = "new_not_deployed"
    NEW_NOT_SERVED = "new_not_served"
    """Clients are shown something else, or nobody answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One region as the old certificate and its successor are known to be there.

    Attributes:
        holds_old: the region holds the old object, or is at work on it.
        serves_old: a listener names the old one, or its last handshake showed it.
        new_state: of the successor's deployment; ``None``: it was never meant to be there.
        new_served: by the last handshakes, of the listeners that should show the successor.
    """

    region: str
    holds_old: bool
    serves_old: bool
    new_state: DeploymentState | None = None
    new_served: ServedState = ServedState.NOT_CHECKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Remainder:
    """Why a replaced certificate still matters. ``region``: ``None`` when it is so everywhere."""

    region: str | None
    lack: Lack


_ON_ITS_WAY = frozenset({DeploymentState.PENDING, DeploymentState.DEPLOYING, DeploymentState.FAILED})
_NOT_PROVEN = frozenset({ServedState.MISMATCH, ServedState.UNREACHABLE})


def remainders(successor: CertificateState, places: Iterable[Place]) -> tuple[Remainder, ...]:
    """What lacks, region by region; none: replaced and served everywhere (promise 7 of the design).

    Where no listener shows the certificate, nothing can be served: deployed is enough there. So it is where nobody can
    knock (``not_checked``: the region has no ``listener_address``). A successor that was taken out of a region on
    purpose, or deleted, lacks nothing there once the old one is gone, too.
    """
    if successor is CertificateState.VALIDATING:
        return (Remainder(region=None, lack=Lack.NOT_READY),)
    found = ((place.region, _lack(place)) for place in sorted(places, key=lambda place: place.region))
    return tuple(Remainder(region=region, lack=lack) for region, lack in found if lack is not None)


def _lack(place: Place) -> Lack | None:
    if place.serves_old:
        return Lack.OLD_SERVED
    if place.holds_old:
        return Lack.OLD_PRESENT
    if place.new_state in _ON_ITS_WAY:
        return Lack.NEW_NOT_DEPLOYED
    is_served_otherwise = place.new_state is DeploymentState.DEPLOYED and place.new_served in _NOT_PROVEN
    return Lack.NEW_NOT_SERVED if is_served_otherwise else None
