"""Shapes of an account's settings: whom it tells, when, and how it renews."""

from __future__ import annotations

from datetime import time
from functools import cache
from typing import Any, Final
from zoneinfo import available_timezones

from marshmallow import fields, validates_schema
from marshmallow.validate import Length

from shared.schemas.base import Answer, Body, email, instant, printable, text, unique
from shared.schemas.faults import refuse
from shared.schemas.managed import renewal_lead
from shared.schemas.reminders import reminder_thresholds

MAX_NAME: Final = 128
MAX_CONTACTS: Final = 20


def known_time_zone(value: str) -> None:
    """A validator: a name of the IANA time zone database, spelled as there."""
    if value not in _time_zones():
        raise refuse(
            "unknown_time_zone",
            "It is no name of the IANA time zone database.",
            hint="Write it as there, such as Europe/Berlin, Asia/Shanghai or UTC.",
        )


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


class WallTime(fields.Field[Any]):
    """A time of day on a wall clock, to the minute: ``22:00``."""

    def _serialize(self, value: time | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:  # noqa: ARG002 - marshmallow's signature
        return None if value is None else f"{value:%H:%M}"

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> time:  # noqa: ARG002 - marshmallow's signature
        try:
            moment = time.fromisoformat(value) if isinstance(value, str) and len(value) == len("22:00") else None
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is not None:
            raise refuse("invalid_time", "It is not a time of day.", hint="Write hours and minutes, such as 22:00.")
        return moment


def _wall_time(attribute: str, description: str, example: str) -> WallTime:
    return WallTime(
        required=True,
        data_key=attribute,
        metadata={
            "type": "string",
            "pattern": "^[0-2][0-9]:[0-5][0-9]$",
            "description": description,
            "example": example,
        },
    )


class QuietWindow(Body):
    """Hours in which only urgent mail goes out (expired, or one day or less left)."""

    begins = _wall_time("from", "The first quiet minute, on the wall clock of `time_zone`.", "22:00")
    ends = _wall_time("until", "The first minute that is not quiet any more; over midnight if it is earlier.", "07:00")

    @validates_schema
    def _is_no_whole_day(self, data: dict[str, Any], **_options: Any) -> None:
        if data["begins"] == data["ends"]:
            raise refuse(
                "empty_window",
                "It begins and ends in the same minute.",
                hint="Give two times; null for quiet_window if no hour is quiet.",
                field="until",
            )


class AccountPatchIn(Body):
    """What may be changed about an account; what is left out stays."""

    name = fields.String(
        validate=printable(at_most=MAX_NAME), metadata={"description": "What to call it.", "example": "shop"}
    )
    contacts = fields.List(
        fields.String(validate=email),
        validate=(Length(0, MAX_CONTACTS), unique),
        metadata={
            "description": "Who is told of certificates without contacts of their own.",
            "example": ["ops@example.com"],
        },
    )
    reminder_thresholds = reminder_thresholds("null: the usual ones, 60, 30, 15, 7, 3, 1 and 0.")
    time_zone = fields.String(
        validate=known_time_zone,
        metadata={"description": "IANA name, for the quiet window.", "example": "Europe/Berlin"},
    )
    quiet_window = fields.Nested(
        QuietWindow,
        allow_none=True,
        metadata={"description": "Mail that is not urgent waits for its end; null: no hour is quiet."},
    )
    auto_renew = fields.Boolean(
        truthy={True},
        falsy={False},
        metadata={"description": "Managed certificates are renewed without being asked to."},
    )
    renew_before_days = renewal_lead("How many days before their end; null: a third of their life.")


class AccountOut(Answer):
    """The account of the token."""

    id = text("Account id.")
    name = text("What it is called.")
    contacts = fields.List(
        fields.String(), metadata={"description": "Who is told of certificates without contacts of their own."}
    )
    reminder_thresholds = fields.List(
        fields.Integer(),
        allow_none=True,
        metadata={"description": "Days before the end, farthest first; null: the usual ones."},
    )
    effective_reminder_thresholds = fields.List(
        fields.Integer(), metadata={"description": "Those that hold for certificates without any of their own."}
    )
    time_zone = text("IANA name, for the quiet window.")
    quiet_window = fields.Nested(QuietWindow, allow_none=True)
    auto_renew = fields.Boolean(metadata={"description": "Managed certificates are renewed without being asked to."})
    renew_before_days = fields.Integer(
        allow_none=True, metadata={"description": "How many days before their end; null: a third of their life."}
    )
    created_at = instant("When it was made.")
