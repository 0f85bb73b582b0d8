"""The text of ``docs/webhooks.md`` and ``docs/events.schema.json``, made from the catalogue and schemas of events."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, fields

from shared.config.settings import WEBHOOK_DISABLE_AFTER, WEBHOOK_RETRY_SCHEDULE
from shared.crypto.webhook_signature import TOLERANCE
from shared.domain.lanes import FAILURES, FIRST_REST, OUTAGE, SWIFT
from shared.domain.webhooks import HEAD_BYTES, JITTER, ROTATION_OVERLAP
from shared.events.catalogue import MEANING, EventType
from shared.events.size import MOST_BYTES
from shared.schemas.event_data import DATA, RESERVED
from shared.usecases.webhook_replay import BATCH as REPLAY_BATCH
from shared.usecases.webhook_replay import MOST_WAITING
from shared.usecases.webhooks import MOST

Document = dict[str, Any]

_FINDING: Final[Document] = {
    "code": "chain_incomplete",
    "severity": "warning",
    "field": "certificate",
    "message": "The issuer's certificate is not in the chain.",
    "hint": "Append the intermediate certificate of the issuer.",
    "line": None,
}
_JOB: Final[Document] = {
    "job_id": "job_01k2x7d8q9c5w3v6t1m4n0pr8s",
    "certificate_id": "cert_01k2x7d8q9c5w3v6t1m4n0pr8r",
}
EXAMPLES: Final[dict[str, Document]] = {
    "job.partially_succeeded": {
        **_JOB,
        "kind": "create",
        "state": "partially_succeeded",
        "regions": {"cn-hangzhou": "deployed", "eu-central-1": "failed", "us-west-1": "deployed"},
        "error": {"code": "some_regions_failed", "message": "1 of 3 regions failed: eu-central-1.", "retryable": False},
    },
    "deployment.retrying": {
        **_JOB,
        "region": "eu-central-1",
        "state": "pending",
        "attempt": 1,
        "error": {
            "code": "unreachable",
            "message": "The load balancer does not answer.",
            "retryable": True,
            "next_attempt_at": "2030-01-31T09:00:03.250000Z",
        },
    },
    "certificate.validated": {
        "certificate_id": _JOB["certificate_id"],
        "name": "shop.example.com",
        "state": "valid",
        "findings": [_FINDING],
    },
    "certificate.expiring": {
        "certificate_id": _JOB["certificate_id"],
        "name": "shop.example.com",
        "common_name": "shop.example.com",
        "type": "server",
        "fingerprint_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "not_after": "2030-03-01T12:00:00Z",
        "threshold": 30,
        "days_left": 29,
        "notified": 2,
    },
    "certificate.deleted": {
        "certificate_id": _JOB["certificate_id"],
        "name": "shop.example.com",
        "state": "deleted",
    },
    "certificate.replaced": {
        "certificate_id": _JOB["certificate_id"],
        "replaced_by": "cert_01k2xa0c5w3v6t1m4n0pr8s7d8",
        "job_id": _JOB["job_id"],
    },
    "listener.changed": {
        "listener_id": "lsn_01k2x7d8q9c5w3v6t1m4n0pr8t",
        "job_id": _JOB["job_id"],
        "certificate_id": _JOB["certificate_id"],
        "region": "cn-hangzhou",
        "change": "created",
    },
    "webhook.test": {"webhook_id": "whk_01k2x7d8q9c5w3v6t1m4n0pr8v"},
}
"""One for each shape of ``data``."""

RECEIVERS: Final = {
    "flask_receiver.py": "Flask",
    "fastapi_receiver.py": "FastAPI",
    "node_receiver.js": "Node",
    "ed25519_receiver.js": "Node, by public key",
}
"""Files of ``docs/examples`` by their titles; ``tests/integration/webhooks/test_examples.py`` runs them."""

_EXAMPLES: Final = Path(__file__).parents[2] / "docs" / "examples"

ERRORS: Final = {
    "deadline_exceeded": "The answer's headers had not all come when the time was up.",
    "connection_failed": "Nobody listens there, or the connection broke.",
    "name_not_resolved": "The host name has no address.",
    "tls_failed": "The certificate is not valid for the host name, or TLS could not be agreed on.",
    "protocol_error": "What came back is not HTTP.",
    "invalid_url": "The URL is no longer one that we call.",
    "address_not_allowed": "The name leads to a private, local or reserved address.",
    "https_required": "http is only for networks that the operator allows.",
    "secret_unreadable": "Our copy of the secret does not open; tell the operator.",
}
"""What an attempt's ``error`` can be."""


def webhooks_page() -> str:
    """The text of ``docs/webhooks.md``: ``python -m services.api.webhooks_page > docs/webhooks.md``."""
    return "\n".join(
        (_INTRODUCTION, *_receivers(), _TYPES, *_types(), _SHAPES, *_shapes(), _ERRORS_TITLE, *_errors(), "")
    )


def schema_document() -> str:
    """The text of ``docs/events.schema.json``: JSON Schema 2020-12 of the whole payload, one branch a type.

    ``python -m services.api.webhooks_page schema > docs/events.schema.json``. Fields may be added: none is forbidden.
    """
    spec = APISpec(title="", version="", openapi_version="3.1.0", plugins=[MarshmallowPlugin()])
    for schema in dict.fromkeys(DATA.values()):
        if _name(schema) not in spec.components.schemas:
            spec.components.schema(_name(schema), schema=schema)
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Certfleet events",
        "description": "The body of every webhook, and every item of GET /v1/events.",
        "type": "object",
        "required": ["type", "id", "sequence", "timestamp", "account_id", "data"],
        "properties": {
            "type": {"type": "string", "enum": [event_type.value for event_type in EventType]},
            "id": {"type": "string"},
            "sequence": {"type": "integer", "minimum": 1},
            "timestamp": {"type": "string", "format": "date-time"},
            "account_id": {"type": "string"},
            "data": {"type": "object"},
        },
        "allOf": [_branch(event_type) for event_type in EventType],
        "$defs": _open(spec.components.schemas),
    }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return text.replace("#/components/schemas/", "#/$defs/") + "\n"


def example(event_type: str) -> Document:
    """A whole payload of the type."""
    return {
        "type": event_type,
        "id": "evt_01k2x7d8q9c5w3v6t1m4n0pr90",
        "sequence": 42,
        "timestamp": "2030-01-31T09:00:00.000000Z",
        "account_id": "acc_01k2x7d8q9c5w3v6t1m4n0pr00",
        "data": EXAMPLES[event_type],
    }


def _branch(event_type: EventType) -> Document:
    return {
        "if": {"properties": {"type": {"const": event_type.value}}},
        "then": {"properties": {"data": {"$ref": f"#/$defs/{_name(DATA[event_type])}"}}},
    }


def _open(value: Any) -> Any:
    """Receivers must ignore fields that they do not know: drop what forbids them."""
    if isinstance(value, dict):
        return {key: _open(below) for key, below in value.items() if (key, below) != ("additionalProperties", False)}
    return [_open(below) for below in value] if isinstance(value, list) else value


def _name(schema: type[Schema]) -> str:
    """As the framework names a schema."""
    return schema.__name__.removesuffix("Schema")


def _receivers() -> Iterator[str]:
    for file, title in RECEIVERS.items():
        language = "python" if file.endswith(".py") else "js"
        source = (_EXAMPLES / file).read_text(encoding="utf-8").rstrip()
        yield from (f"### {title}", "", f"```{language}", source, "```", "")


def _types() -> Iterator[str]:
    yield "| type | meaning | data |"
    yield "|---|---|---|"
    for event_type in EventType:
        reserved = " *Reserved: not sent by this version.*" if event_type in RESERVED else ""
        name = _name(DATA[event_type])
        yield f"| `{event_type}` | {MEANING[event_type]}{reserved} | [{name}](#{name.lower()}) |"


def _shapes() -> Iterator[str]:
    for event_type in EXAMPLES:
        schema = DATA[event_type]
        yield from (f"### {_name(schema)}", "", (schema.__doc__ or "").strip(), "")
        yield from _fields(schema, prefix="")
        yield from ("", "```json", json.dumps(example(event_type), indent=2), "```", "")


def _fields(schema: type[Schema], *, prefix: str) -> Iterator[str]:
    if not prefix:
        yield "| field | always | meaning |"
        yield "|---|---|---|"
    for name, field in schema().fields.items():
        always = "yes" if field.required else "no"
        yield f"| `{prefix}{name}` | {always} | {field.metadata.get('description', '')} |"
        inner = field.inner if isinstance(field, fields.List) else field
        if isinstance(inner, fields.Nested):
            mark = "[]" if isinstance(field, fields.List) else ""
            yield from _fields(type(inner.schema), prefix=f"{prefix}{name}{mark}.")


def _errors() -> Iterator[str]:
    yield "| error | meaning |"
    yield "|---|---|"
    yield from (f"| `{code}` | {meaning} |" for code, meaning in ERRORS.items())


def _pauses() -> str:
    units = ((3600, "h"), (60, "min"), (1, "s"))
    return ", ".join(
        next(f"{pause // seconds} {unit}" for seconds, unit in units if pause % seconds == 0)
        for pause in WEBHOOK_RETRY_SCHEDULE
    )


_INTRODUCTION: Final = f"""\
# Webhooks

<!-- Generated: python -m services.api.webhooks_page > docs/webhooks.md -->

Every event is sent, signed, to every endpoint that asked for it: to the endpoints of `/v1/webhooks`, and to a job's
`callback_url` (which hears of that job only, from `job.queued` to the job's end). The signatures are
[Standard Webhooks](https://www.standardwebhooks.com) 1.0.0, so any of its libraries verifies them.

## In two minutes

```sh
curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
     -d '{{"url": "https://example.com/hooks/certfleet", "types": ["deployment.*", "job.*"]}}' $URL/v1/webhooks
```

The answer holds `secret` (`whsec_…`), this once: keep it where your receiver finds it. Then verify every request before
you read it, over the **raw body** as it came (parsing and writing JSON again changes bytes). Whole receivers are
[below](#receivers).

To watch, and to develop a receiver on your desk, without a public address:

```sh
certfleet listen                                        # prints verified webhooks, and removes its endpoint at the end
certfleet listen --types 'deployment.*,job.*' --json    # one event a line, for another program
certfleet listen --after 0                              # all events so far and those to come, pulled, over any break
certfleet listen --forward http://127.0.0.1:9000/certfleet   # your receiver gets them, signed; its answers count
```

It works on the stack of `certfleet up`, or with `--url` and `CERTFLEET_TOKEN` on another one.

Answer 2xx as soon as the event is safely yours, within the timeout (15 s unless the operator set another), and work
afterwards. `POST /v1/webhooks/{{id}}/test`, or `certfleet webhooks test`, sends a `webhook.test` event to one endpoint.

## What is sent

A `POST` with `Content-Type: application/json` and these headers:

| header | content |
|---|---|
| `webhook-id` | the event's `id`: the same at every attempt and replay |
| `webhook-timestamp` | when this attempt was made, in seconds since 1970 |
| `webhook-signature` | `v1,` and base64 of HMAC-SHA256, or `v1a,` and base64 of an Ed25519 signature |

Signed is `{{webhook-id}}.{{webhook-timestamp}}.{{body}}`, the body as it came.
After a rotation there are several signatures, separated by spaces: one that matches is enough. Refuse timestamps that
are more than {TOLERANCE.seconds // 60} minutes off, so that a recorded request cannot be sent again.

The body is the event: `{{type, id, sequence, timestamp, account_id, data}}`. It never holds a key or PEM. It is the
same, byte for byte, at every attempt, in the list of `GET /v1/events` and in its stream. Ignore fields that you do not
know: new ones may come. [`events.schema.json`](events.schema.json) is its JSON Schema.

A body has at most {MOST_BYTES // 1000} kB. Where a certificate has more `findings` than fit, `findings_omitted` counts
the rest, and `findings_at` says where all are; sentences that are too long end with `…`.

## What is promised

* **At least once.** An event is stored in the same transaction as the change it tells of, with a delivery for each
  endpoint that wants it at that moment. A crash between your answer and our note of it sends it again. Keep the
  `webhook-id`s that you have handled and skip those you know. If several endpoints share that memory, key it by
  endpoint, too: each gets the event under the same id.
* **In order, as long as you answer at once and well.** First attempts begin in the order of `sequence`. While your
  answers take less than {SWIFT.microseconds // 1000} ms there is one delivery at a time, so they also arrive in
  that order. Slower receivers get up to four at once, which may overtake each other, unless the operator sets
  `CERTFLEET_WEBHOOK_AT_ONCE=1`. What failed comes again when its pause is over, after later events. After an outage
  ({OUTAGE} failures in a row, or more) the first success makes everything that waits due at once, in the order of
  `sequence`. What is [replayed](#replay) comes behind
  what is new. So: `sequence` numbers the account's events without gaps in the order in which they were committed, and
  `data` is the state *after* the event; remember the highest `sequence` handled for a job or region, and drop what is
  below. For the full order, read `GET /v1/events?after=`.
* **A lane of your own.** Other receivers, however slow, silent or many, do not delay yours, and yours not theirs. A
  receiver that takes longer than a tenth of the timeout for an answer gets one delivery at a time. After
  {FAILURES} failures in a row it is left alone for {FIRST_REST.seconds} s, doubling to a minute, and then tried with
  one delivery; waiting uses up no attempts. A test event or a replay that you ask for is tried at once. Jobs' callbacks
  to one host share a lane.
* **Retries.** Only 2xx is success. Redirects are not followed and count as failures. After a failure the next attempt
  comes after {_pauses()} (each ±{JITTER:.0%}), then the delivery is `exhausted`: three days in all.
  `Retry-After` lengthens a pause, up to the longest one, and for up to a minute of it the receiver gets no other
  event either. Operators can set another schedule (`CERTFLEET_WEBHOOK_RETRY_SCHEDULE`).
* **410 Gone** disables the endpoint. What waits for a disabled or deleted endpoint is `cancelled`.
* **A receiver that fails for days is disabled.** After {WEBHOOK_DISABLE_AFTER.days} days of nothing but failures
  (operators: `CERTFLEET_WEBHOOK_DISABLE_AFTER_SECONDS`) the endpoint is disabled, with the reason in
  `disabled_reason`. The account's contacts get a warning by mail after a fifth of that time, and have at least as long
  again to act; they are told when it happens. `failing_since` says since when nothing was delivered; one delivery that
  succeeds clears it. What waits is `cancelled`, as above. After `{{"enabled": true}}`, `missed_since` says from when on
  something may be missing: [replay](#replay) with `since` and `only_failed` sends it. Callbacks end with their jobs
  instead.
* **Nothing is hidden.** `GET /v1/webhooks/{{id}}/deliveries` lists every delivery with each attempt's status, duration
  and the first {HEAD_BYTES // 1024} kB of your answer, without what looks like a key, a token or a signature.
  `POST …/deliveries/{{id}}/replay` sends one again, whatever became of it: same id, same body, the whole schedule anew.
* **Kept for 90 days.** Events, with their deliveries, are kept for 90 days and attempts for 30, unless the operator
  says otherwise (`CERTFLEET_KEEP_EVENTS_DAYS`, `CERTFLEET_KEEP_ATTEMPTS_DAYS`); what still waits for an endpoint, and
  all after it, for as long as it waits. No gap is silent: `GET /v1/events?after=` and a replay that begin before that
  are 410 `events_expired`, with the place to go on; `after=0` is all that there is.
* **Seen from both sides.** `GET /v1/webhooks/{{id}}` shows `lag`: how many deliveries wait, and the age of the oldest,
  and `receiver`: how yours answers (`fine`, `slow`, `failing`, `resting`), and when it is tried again.
  Operators see the endpoints that are farthest behind in `/metrics`.
* **Missed is not lost.** [Replay](#replay) many events at once, from a cursor or a time on.

## What an endpoint hears of

An account has at most {MOST} endpoints (409 `too_many_webhooks`), callbacks not counted.

| field | lets through |
|---|---|
| `types` | types of events, or patterns with `*`: `deployment.*`, `*.failed`; default `*` |
| `regions` | events that name one of these, or none at all (`certificate.expiring`, `job.queued`); default all |
| `tags` | events of certificates that have all of these tags at that moment; `"*"` is any value; default all |

An event must pass all three. `PATCH /v1/webhooks/{{id}}` changes them, the `url`, the `description`, and `enabled`:
with `{{"enabled": false, "disabled_reason": "…"}}` what waits is cancelled and nothing is sent until you enable it.
What happened meanwhile is in `GET /v1/events`, and can be [replayed](#replay).

## Replay

After a fault of your receiver, or for a receiver that begins with the past:

```sh
certfleet webhooks deliveries WEBHOOK --state exhausted          # what did not arrive, and why
certfleet webhooks replay WEBHOOK --since 2030-01-31T09:00:00Z --only-failed
certfleet webhooks replay WEBHOOK --after 1200 --type 'deployment.*'
```

The same by API: `POST /v1/webhooks/{{id}}/replay` with `{{"after": <sequence>}}` (0: from the first) or
`{{"since": <time>}}`, and if you like `until`, `types` and `only_failed`. It answers 202 with the replay; its
`position`, `queued` and `state` are at `GET /v1/webhooks/{{id}}/replays/{{replay}}`, and `POST …/cancel` stops it.

* Sent is what happened until the moment of the request, as far as the endpoint's filters of now (and your `types`) let
  it through: also events from before the endpoint was made, or while it was disabled. Tags count as they are now.
  Test events are not replayed.
* `only_failed` leaves out what was delivered. Without it everything is sent again, under the same `webhook-id` and with
  the same body; what waits for a retry is due at once.
* **Order**: events are queued by `sequence`, {REPLAY_BATCH} at a time; the next ones follow when each of these has been
  tried once. New events do not wait for a replay: they go first.
* A replay adds nothing while {MOST_WAITING:,} deliveries of the endpoint wait, so that a receiver that is down is not
  buried. Disabling or deleting the endpoint cancels it.
* One replay of an endpoint at a time: a second request gets 409 `replay_running`, with the id of the first; the same
  request with the same `Idempotency-Key` gets the first one's answer.

## Secrets and keys

* Each endpoint has its own. With `"signature_scheme": "hmac-sha256"` (the default) that is a shared secret, `whsec_…`,
  shown once. With `"ed25519"` it is a key pair: the private key (`whsk_…`) never leaves us, and `public_key`
  (`whpk_…` and base64 of its 32 bytes) is shown by `GET /v1/webhooks/{{id}}`; who has it can verify, and not sign.
* `POST /v1/webhooks/{{id}}/rotate` answers a new secret or public key; `{{"signature_scheme": …}}` changes over to the
  other kind. For {ROTATION_OVERLAP.days * 24} hours deliveries carry both signatures, so that you can change over
  without a gap; `{{"overlap_seconds": 0}}` stops the old one at once.
* Callbacks (`callback_url`) are signed with the account's callback secret: `GET /v1/webhooks/callback-secret` (scope
  `write`), `POST /v1/webhooks/callback-secret/rotate`, with the same overlap.
* We keep secrets encrypted, and never write them to a log.

## Where webhooks may go

https to public addresses, any port. A URL has no user name, password or fragment, and no disguised address
(`127.1`, `0x7f000001`). The name is resolved once for each attempt; every address it has must be public, and the
checked address is the one that is dialled, so DNS rebinding and redirects lead nowhere. Private networks, also over
http, are reached only if the operator lists them in `CERTFLEET_WEBHOOK_ALLOWED_NETWORKS`. No proxy is used.

## Receivers

Each is whole, runs as its first lines say, and is run by our tests with real deliveries, forged ones and rotated
secrets. They are in [`docs/examples`](examples).
"""

_TYPES: Final = """\
## Types of events
"""

_SHAPES: Final = """
## Data
"""

_ERRORS_TITLE: Final = """\
## Why an attempt had no answer

An attempt has the receiver's `status`, or one of these as its `error`:
"""


if __name__ == "__main__":
    sys.stdout.write(schema_document() if sys.argv[1:] == ["schema"] else webhooks_page())
