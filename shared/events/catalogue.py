"""Every type of event there is, with one line of meaning. Webhooks, streams and the audit all come from these."""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final


class EventType(StrEnum):
    """Spelled as on the wire."""

    JOB_QUEUED = "job.queued"
    JOB_SUCCEEDED = "job.succeeded"
    JOB_PARTIALLY_SUCCEEDED = "job.partially_succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    CERTIFICATE_VALIDATED = "certificate.validated"
    CERTIFICATE_REJECTED = "certificate.rejected"
    CERTIFICATE_EXPIRING = "certificate.expiring"
    CERTIFICATE_EXPIRED = "certificate.expired"
    CERTIFICATE_REPLACED = "certificate.replaced"
    CERTIFICATE_DELETED = "certificate.deleted"
    DEPLOYMENT_STARTED = "deployment.started"
    DEPLOYMENT_SUCCEEDED = "deployment.succeeded"
    DEPLOYMENT_FAILED = "deployment.failed"
    DEPLOYMENT_RETRYING = "deployment.retrying"
    DEPLOYMENT_REMOVED = "deployment.removed"
    DEPLOYMENT_DRIFTED = "deployment.drifted"
    DEPLOYMENT_RECOVERED = "deployment.recovered"
    LISTENER_CHANGED = "listener.changed"
    WEBHOOK_TEST = "webhook.test"


MEANING: Final = {
    EventType.JOB_QUEUED: "A job was accepted.",
    EventType.JOB_SUCCEEDED: "Every region answered as wished.",
    EventType.JOB_PARTIALLY_SUCCEEDED: "Some regions answered as wished, others failed for good.",
    EventType.JOB_FAILED: "The upload was refused, or no region answered as wished.",
    EventType.JOB_CANCELLED: "The job was cancelled; `regions` says which had begun, and finished.",
    EventType.CERTIFICATE_VALIDATED: "The upload passed validation; `findings` says what was noticed or repaired.",
    EventType.CERTIFICATE_REJECTED: "The upload failed validation; `findings` says why, field by field.",
    EventType.CERTIFICATE_EXPIRING: "The certificate crossed a reminder threshold.",
    EventType.CERTIFICATE_EXPIRED: "The certificate is past its notAfter.",
    EventType.CERTIFICATE_REPLACED: "New content took the certificate's place.",
    EventType.CERTIFICATE_DELETED: "The certificate was removed everywhere and its key destroyed.",
    EventType.DEPLOYMENT_STARTED: "A worker began an attempt in the region.",
    EventType.DEPLOYMENT_SUCCEEDED: "The region holds the certificate, read back by fingerprint.",
    EventType.DEPLOYMENT_FAILED: "The region failed for good, or was `cancelled` there; it can be retried by itself.",
    EventType.DEPLOYMENT_RETRYING: "An attempt failed; the next one is at `error.next_attempt_at`.",
    EventType.DEPLOYMENT_REMOVED: "The region no longer holds the certificate.",
    EventType.DEPLOYMENT_DRIFTED: "The region serves or holds something else than what was deployed; `error` names it.",
    EventType.DEPLOYMENT_RECOVERED: "The region serves and holds what was deployed again.",
    EventType.LISTENER_CHANGED: "A listener was created, changed or deleted.",
    EventType.WEBHOOK_TEST: "Sent on request to one endpoint, to try it out.",
}


def matches(event_type: str, globs: list[str]) -> bool:
    """Whether an endpoint's filter (``deployment.*``, ``*``) lets the type through."""
    return any(fnmatchcase(event_type, glob) for glob in globs)
