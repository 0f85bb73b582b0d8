"""Shapes of errors: problems of requests (RFC 9457), errors of jobs and regions, findings of validation."""

from __future__ import annotations

from marshmallow import fields

from shared.schemas.base import Answer, instant, text


class FieldErrorOut(Answer):
    """One refused field."""

    field = text("Dotted path such as regions.0; empty for the body as a whole.")
    code = text("Stable and machine-readable.")
    message = text("What is wrong.")
    hint = text("What to do about it.")
    line = fields.Integer(metadata={"description": "Line in a PEM field, from 1."})


class ProblemOut(Answer):
    """Every refusal, application/problem+json."""

    type = text("A stable URI for the code.", required=True)
    title = text("The status in words.", required=True)
    status = fields.Integer(required=True, metadata={"description": "The HTTP status."})
    detail = text("What is wrong with this request.", required=True)
    code = text("Stable and machine-readable.", required=True)
    hint = text("What to do about it.", required=True)
    errors = fields.List(fields.Nested(FieldErrorOut))
    context = fields.Dict(metadata={"description": "With 409: who or what is in the way."})
    request_id = text("Names this request in the logs.", required=True)


class FindingOut(Answer):
    """One thing that validation noticed; every code is in docs/validation.md."""

    code = text("Stable and machine-readable.")
    severity = text("error, warning or fixed.")
    field = text("The request's field.")
    message = text("What was noticed.")
    hint = text("What to do about it.")
    line = fields.Integer(allow_none=True, metadata={"description": "Line in the field, from 1."})


class ErrorOut(Answer):
    """Why a job or a region failed."""

    code = text("Stable and machine-readable.")
    message = text("What went wrong.")
    retryable = fields.Boolean(metadata={"description": "Whether trying again may help."})
    next_attempt_at = instant("When it will be tried again by itself; only while it will.")
    findings = fields.List(fields.Nested(FindingOut))
