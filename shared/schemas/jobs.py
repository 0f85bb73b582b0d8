"""Shapes of answers about jobs."""

from __future__ import annotations

from marshmallow import fields
from marshmallow.validate import Length, OneOf

from shared.domain.rollout import JobKind, JobState
from shared.schemas.base import Answer, PageQuery, instant, optional_text, text
from shared.schemas.errors import ErrorOut, FindingOut


class JobDeploymentOut(Answer):
    """What a job achieved in one region, or how far it is."""

    region = text("Region id.")
    state = text("pending, deploying, deployed, failed, removing, removed; or cancelled: left as it was.")
    attempt = fields.Integer(metadata={"description": "Attempts so far."})
    error = fields.Nested(ErrorOut, allow_none=True)


class JobListenerOut(Answer):
    """What a job achieved with one listener, or how far it is."""

    listener_id = text("Listener id.")
    region = text("Region id.")
    name = text("What the listener is called.")
    state = text("pending, binding, bound, failed, unbinding, deleted; or cancelled: left as it was.")
    attempt = fields.Integer(metadata={"description": "Attempts so far."})
    error = fields.Nested(ErrorOut, allow_none=True)


class JobOut(Answer):
    """A job."""

    id = text("Job id.")
    kind = text("create, deploy, retry, renew, replace, remove, create_listener, change_listener or delete_listener.")
    state = text("queued, validating, deploying, succeeded, partially_succeeded, failed or cancelled.")
    certificate_id = text("What it is about.")
    deployments = fields.List(fields.Nested(JobDeploymentOut))
    listeners = fields.List(fields.Nested(JobListenerOut))
    error = fields.Nested(ErrorOut, allow_none=True)
    findings = fields.List(fields.Nested(FindingOut))
    created_at = instant("When it was accepted.")
    started_at = instant("When a worker first took it.")
    finished_at = instant("When the last region had answered.")
    cancel_requested_at = instant("When it was cancelled; null if it was not.")


class JobQuery(PageQuery):
    """Filters of the list of jobs."""

    state = fields.String(
        load_default=None,
        validate=OneOf([state.value for state in JobState]),
        metadata={"description": "Only jobs in this state."},
    )
    kind = fields.String(
        load_default=None,
        validate=OneOf([kind.value for kind in JobKind]),
        metadata={"description": "Only jobs of this kind."},
    )
    certificate_id = fields.String(
        load_default=None, validate=Length(1, 64), metadata={"description": "Only this certificate's jobs."}
    )


class JobPage(Answer):
    """One page of jobs, newest first."""

    items = fields.List(fields.Nested(JobOut))
    next_cursor = optional_text("Where the next page begins; null on the last.")


class JobAcceptedOut(Answer):
    """The job that an action started."""

    job = fields.Nested(JobOut)


class RegionAttemptOut(Answer):
    """One try at a region."""

    id = text("Attempt id.")
    region = text("Region id.")
    listener_id = optional_text("Of a listener: which; null: of the job's certificate.")
    action = text("deploy, remove, bind, unbind, or repair: a listener bound again after a change by hand.")
    number = fields.Integer(metadata={"description": "1 for the first; a new job begins again."})
    outcome = text("started, succeeded, failed, or lost: its worker died at it.")
    error = fields.Nested(ErrorOut, allow_none=True)
    started_at = instant("When a worker claimed it.")
    ended_at = instant("When it was answered; null while it is at work.")


class RegionAttemptPage(Answer):
    """One page of attempts, oldest first."""

    items = fields.List(fields.Nested(RegionAttemptOut))
    next_cursor = optional_text("Where the next page begins; null on the last.")
