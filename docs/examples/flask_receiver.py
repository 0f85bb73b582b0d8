"""A webhook receiver with Flask.

pip install flask standardwebhooks
export CERTFLEET_WEBHOOK_SECRET=whsec_…
flask --app flask_receiver run --port 9000
"""

from __future__ import annotations

import os

from flask import Flask, request
from standardwebhooks import Webhook, WebhookVerificationError

app = Flask(__name__)
webhook = Webhook(os.environ["CERTFLEET_WEBHOOK_SECRET"])
handled: set[str] = set()  # in earnest: a table with a unique column, written in the transaction of the work


@app.post("/certfleet")
def receive() -> tuple[str, int]:
    """Verify the raw body, skip what is known, answer at once."""
    try:
        event = webhook.verify(request.get_data(), dict(request.headers))
    except (WebhookVerificationError, ValueError):  # ValueError: headers too malformed for the package
        return "not signed by Certfleet", 400
    if request.headers["webhook-id"] not in handled:
        handle(event)
        handled.add(request.headers["webhook-id"])
    return "", 204


def handle(event: dict[str, object]) -> None:
    """Your part. What takes longer than a second goes to a queue of yours."""
    print(event["type"], event["sequence"], flush=True)
