"""The roll-out as state machines: a job, its deployments, and how the regions' answers add up."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from shared.domain.listeners import FINAL_LISTENERS


class JobKind(StrEnum):
    """What was asked for."""

    CREATE = "create"
    DEPLOY = "deploy"
    RETRY = "retry"
    RENEW = "renew"
    REPLACE = "replace"
    REMOVE = "remove"
    CREATE_LISTENER = "create_listener"
    CHANGE_LISTENER = "change_listener"
    DELETE_LISTENER = "delete_listener"


class JobState(StrEnum):
    """``queued → validating → deploying → succeeded | partially_succeeded | failed | cancelled``."""

    QUEUED = "queued"
    VALIDATING = "validating"
    DEPLOYING = "deploying"
    SUCCEEDED = "succeeded"
    PARTIALLY_SUCCEEDED = "partially_succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DeploymentState(StrEnum):
    """``pending → deploying → deployed | failed``, later ``removing → removed``."""

    PENDING = "pending"
    DEPLOYING = "deploying"
    DEPLOYED = "deployed"
    FAILED = "failed"
    REMOVING = "removing"
    REMOVED = "removed"


class Intent(StrEnum):
    """What a deployment's current job wants of the region."""

    DEPLOY = "deploy"
    REMOVE = "remove"


class ServedState(StrEnum):
    """What clients really get, by the last handshake; "delivered" is never shown as "served"."""

    NOT_CHECKED = "not_checked"
    MATCH = "match"
    MISMATCH = "mismatch"
    UNREACHABLE = "unreachable"


FINAL_JOBS: Final = frozenset({JobState.SUCCEEDED, JobState.PARTIALLY_SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
FINAL_DEPLOYMENTS: Final = frozenset({DeploymentState.DEPLOYED, DeploymentState.FAILED, DeploymentState.REMOVED})
CANCELLED: Final = "cancelled"
"""A job's answer of a region or listener that was left as it was; no state of the deployment or listener itself."""

BRINGING_CONTENT: Final = frozenset({JobKind.CREATE, JobKind.REPLACE, JobKind.RENEW})
"""Jobs that bring content, which is validated before it goes anywhere."""

TAKING_PLACE: Final = frozenset({JobKind.REPLACE, JobKind.RENEW})
"""Jobs that bring it in another certificate's place."""

SUCCESSIONS: Final = TAKING_PLACE | {JobKind.RETRY}
"""Jobs after which, when they come to nothing, the other certificate is to be free again: a retry may have been one."""

_FINAL_ANSWERS: Final = FINAL_DEPLOYMENTS | FINAL_LISTENERS | {CANCELLED}
ACTIVE_DEPLOYMENTS: Final = frozenset(DeploymentState) - FINAL_DEPLOYMENTS


def settle(answers: Iterable[str | None]) -> JobState | None:
    """The job's final state once every region and listener has answered, else ``None``. None at all is a success.

    Args:
        answers: each one's final state for this job, or ``CANCELLED``; ``None`` (or an active state) while it is being
            worked on.
    """
    states = [None if answer is None else str(answer) for answer in answers]
    if not all(state in _FINAL_ANSWERS for state in states):
        return None
    if CANCELLED in states:
        return JobState.CANCELLED
    failed = states.count("failed")
    if not failed:
        return JobState.SUCCEEDED
    return JobState.FAILED if failed == len(states) else JobState.PARTIALLY_SUCCEEDED
