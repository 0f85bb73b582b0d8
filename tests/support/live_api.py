"""The API on a port of its own and a courier that delivers what is due, for programs outside of the tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask
from sqlalchemy import select
from werkzeug.serving import WSGIRequestHandler, make_server

from shared.domain.webhooks import DeliveryState, ReplayState
from shared.models import WebhookDelivery, WebhookReplay
from shared.usecases.webhook_replay import advance
from tests.support.webhook_world import World

LOOK_SECONDS = 0.02


@contextmanager
def live_api(app: Flask, *, port: int = 0) -> Iterator[str]:
    """Serve the application on loopback until the block ends; its URL. Streams that are open end by themselves."""
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_OneRequest)
    server.daemon_threads = False  # type: ignore[attr-defined]  # of socketserver.ThreadingMixIn: closing waits for all
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _OneRequest(WSGIRequestHandler):
    """Keeps no connection, so that every thread ends with its answer."""

    protocol_version = "HTTP/1.0"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Stay quiet."""


@contextmanager
def courier(world: World) -> Iterator[None]:
    """Deliver whatever is due by the world's clock, replays too, again and again, until the block ends."""
    stopping = threading.Event()
    thread = threading.Thread(target=_deliver, args=(world, stopping), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def _deliver(world: World, stopping: threading.Event) -> None:
    pending = select(WebhookDelivery.id).where(
        WebhookDelivery.state == DeliveryState.PENDING, WebhookDelivery.next_attempt_at <= world.now
    )
    while not stopping.wait(LOOK_SECONDS):
        with world.transaction() as session:
            due = session.execute(pending.order_by(WebhookDelivery.id)).scalars().all()
            replays = session.execute(select(WebhookReplay.id).where(WebhookReplay.state == ReplayState.RUNNING))
            running = replays.scalars().all()
        for delivery_id in due:
            world.deliver(delivery_id)
        for replay_id in running:
            advance(world.context, replay_id, now=world.now)
