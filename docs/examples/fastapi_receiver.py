"""A webhook receiver with FastAPI.

pip install fastapi uvicorn standardwebhooks
export CERTFLEET_WEBHOOK_SECRET=whsec_…
uvicorn fastapi_receiver:app --port 9000
"""

from __future__ import annotations

import os

from fastapi import FastAPI, Request, Response
from standardwebhooks import Webhook, WebhookVerificationError

app = FastAPI()
webhook = Webhook(os.environ["CERTFLEET_WEBHOOK_SECRET"])
handled: set[str] = set()  # in earnest: a table with a unique column, written in the transaction of the work


@app.post("/certfleet")
async def receive(request: Request) -> Response:
    """Verify the raw body (no model in the signature: FastAPI would parse it first), skip what is known, answer."""
    body = await request.body()
    try:
        event = webhook.verify(body, dict(request.headers))
    except (WebhookVerificationError, ValueError):  # ValueError: headers too malformed for the package
        return Response("not signed by Certfleet", status_code=400)
    if request.headers["webhook-id"] not in handled:
        handle(event)
        handled.add(request.headers["webhook-id"])
    return Response(status_code=204)


def handle(event: dict[str, object]) -> None:
    """Your part. What takes longer than a second goes to a queue of yours."""
    print(event["type"], event["sequence"], flush=True)
