"""Shapes of requests and answers about listeners."""

from __future__ import annotations

from typing import Any

from marshmallow import fields
from marshmallow.validate import Length, OneOf

from shared.domain.listeners import MOST_HOSTS, Authentication, ListenerState
from shared.domain.rollout import ServedState
from shared.schemas.base import Answer, Body, PageQuery, instant, optional_text, printable, text
from shared.schemas.certificates import MAX_NAME, web_url
from shared.schemas.errors import ErrorOut
from shared.schemas.jobs import JobOut


def _name(**options: Any) -> fields.String:
    return fields.String(
        validate=printable(at_most=MAX_NAME), metadata={"description": "What to call it.", "example": "shop"}, **options
    )


def _hosts(**options: Any) -> fields.List[str]:
    return fields.List(
        fields.String(validate=Length(1, 255)),
        validate=Length(1, MOST_HOSTS),
        metadata={
            "description": "DNS names that it answers for (SNI); `*.` at the front is a wildcard.",
            "example": ["shop.example.com"],
        },
        **options,
    )


def _authentication(**options: Any) -> fields.String:
    return fields.String(
        validate=OneOf([one.value for one in Authentication]),
        metadata={
            "description": "`one_way`: the server shows a certificate. `mutual`: clients must show one of the CA, too."
        },
        **options,
    )


def _certificate(what: str, **options: Any) -> fields.String:
    return fields.String(validate=Length(1, 64), metadata={"description": what}, **options)


class ListenerIn(Body):
    """What ``POST /v1/listeners`` takes."""

    region = fields.String(required=True, validate=Length(1, 64), metadata={"description": "Region id."})
    name = _name(required=True)
    hosts = _hosts(required=True)
    authentication = _authentication(load_default=Authentication.ONE_WAY.value)
    server_certificate_id = _certificate("The certificate that clients are shown.", required=True)
    ca_certificate_id = _certificate(
        "Whose clients are let in; with `mutual` only.", load_default=None, allow_none=True
    )
    callback_url = fields.String(
        load_default=None,
        allow_none=True,
        validate=web_url,
        metadata={"description": "Receives this job's events, signed.", "example": "https://ci.example.com/hook"},
    )


class ListenerPatchIn(Body):
    """What may be changed about a listener; what is left out stays. The region never changes."""

    name = _name()
    hosts = _hosts()
    authentication = _authentication()
    server_certificate_id = _certificate("The certificate that clients are shown.")
    ca_certificate_id = _certificate("Whose clients are let in; null with `one_way`.", allow_none=True)


class ListenerServedOut(Answer):
    """What clients of the listener really get, by the last handshakes."""

    state = text("not_checked, match, mismatch or unreachable.")
    fingerprint_sha256 = optional_text("Of the certificate that was shown, in hex.")
    message = optional_text("What the handshakes proved, or what was wrong.")
    checked_at = instant("When they were made.")


class ListenerShapeOut(Answer):
    """What a change wants of a listener."""

    hosts = fields.List(fields.String(), metadata={"description": "DNS names that it answers for."})
    authentication = text("one_way or mutual.")
    server_certificate_id = text("The certificate that clients are shown.")
    ca_certificate_id = optional_text("Whose clients are let in.")


class ListenerOut(Answer):
    """An HTTPS listener of one region."""

    id = text("Listener id.")
    region = text("Region id.")
    name = text("What it is called.")
    hosts = fields.List(fields.String(), metadata={"description": "DNS names that it answers for."})
    authentication = text("one_way or mutual.")
    server_certificate_id = text("The certificate that clients are shown.")
    ca_certificate_id = optional_text("Whose clients are let in.")
    state = text("pending, binding, bound, failed, unbinding or deleted.")
    change = fields.Nested(
        ListenerShapeOut, allow_none=True, metadata={"description": "What its job wants instead, until that is proven."}
    )
    error = fields.Nested(ErrorOut, allow_none=True)
    job_id = text("The job that worked on it last.")
    served = fields.Nested(ListenerServedOut)
    created_at = instant("When it was asked for.")
    updated_at = instant("When it last changed.")


class ListenerQuery(PageQuery):
    """Filters of the list of listeners."""

    region = fields.String(load_default=None, validate=Length(1, 64), metadata={"description": "Only of this region."})
    certificate_id = fields.String(
        load_default=None, validate=Length(1, 64), metadata={"description": "Only those that use this certificate."}
    )
    state = fields.String(
        load_default=None,
        validate=OneOf([one.value for one in ListenerState if one is not ListenerState.DELETED]),
        metadata={"description": "Only in this state."},
    )
    served = fields.String(
        load_default=None,
        validate=OneOf([one.value for one in ServedState]),
        metadata={"description": "Only those whose clients last got this."},
    )
    q = fields.String(
        load_default=None, validate=Length(1, 200), metadata={"description": "Part of the name or of a host name."}
    )


class ListenerPage(Answer):
    """One page of listeners, newest first."""

    items = fields.List(fields.Nested(ListenerOut))
    next_cursor = optional_text("Where the next page begins; null on the last.")


class ListenerAcceptedOut(Answer):
    """The job that an action started, and the listener."""

    job = fields.Nested(JobOut)
    listener = fields.Nested(ListenerOut)
