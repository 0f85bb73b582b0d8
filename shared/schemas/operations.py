"""Shapes of answers to operators."""

from __future__ import annotations

from marshmallow import fields

from shared.schemas.base import Answer, instant, text


class HealthOut(Answer):
    """The process is alive."""

    status = text("Always ok.")


class CheckOut(Answer):
    """One thing looked at."""

    ok = fields.Boolean(metadata={"description": "Whether it is as it should be."})
    detail = text("What was found.")
    last_run_at = instant("When a periodic task last succeeded; of the scheduler only.")


class ReadinessOut(Answer):
    """What the service stands on."""

    status = text("ok, degraded or unavailable.")
    checks = fields.Dict(
        keys=fields.String(),
        values=fields.Nested(CheckOut),
        metadata={"description": "database, migrations, broker, scheduler."},
    )
