"""Attempts: one try at a region, of a deployment or of a listener, as it went."""

from __future__ import annotations

from enum import StrEnum


class AttemptAction(StrEnum):
    """What was tried. ``repair``: a listener bound again after somebody changed the balancer by hand."""

    DEPLOY = "deploy"
    REMOVE = "remove"
    BIND = "bind"
    UNBIND = "unbind"
    REPAIR = "repair"


class AttemptOutcome(StrEnum):
    """How it went. ``lost``: its worker died at it, or was taken for dead; nobody knows how far it came."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
