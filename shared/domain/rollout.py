"""The roll-out as state machines: a job, its deployments, and how the regions' answers add up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class JobKind(StrEnum):
    """What was asked for."""

    CREATE = "create"
    DEPLOY = "deploy"
    RETRY = "retry"
    RENEW = "renew"
    REPLACE = "replace"
    REMOVE = "remove"


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
ACTIVE_DEPLOYMENTS: Final = frozenset(DeploymentState) - FINAL_DEPLOYMENTS

_GOAL: Final = {Intent.DEPLOY: DeploymentState.DEPLOYED, Intent.REMOVE: DeploymentState.REMOVED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Where one region stands for one job."""

    intent: Intent
    state: DeploymentState

    @property
    def is_final(self) -> bool:
        """Whether the region has answered."""
        return self.state in FINAL_DEPLOYMENTS

    @property
    def is_success(self) -> bool:
        """Whether it answered as wished."""
        return self.state is _GOAL[self.intent]


def settle(outcomes: Iterable[Outcome]) -> JobState | None:
    """The job's final state once every region has answered, else ``None``. No regions at all is a success."""
    answers = list(outcomes)
    if not all(answer.is_final for answer in answers):
        return None
    succeeded = sum(answer.is_success for answer in answers)
    if succeeded == len(answers):
        return JobState.SUCCEEDED
    return JobState.PARTIALLY_SUCCEEDED if succeeded else JobState.FAILED
