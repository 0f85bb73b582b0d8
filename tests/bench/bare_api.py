"""The bare ceiling of a submission: Flask, one INSERT, one Celery publish, and nothing else."""

from __future__ import annotations

import os
import uuid

from flask import Flask, request
from flask.typing import ResponseReturnValue
from sqlalchemy import create_engine, text

from shared.models.database import driver_url
from shared.wakeups import CeleryPublisher, Task, WakeUp, producer

INSERT = text("INSERT INTO bare_jobs (id, body) VALUES (:id, :body)")


def create_app() -> Flask:
    app = Flask("bare")
    engine = create_engine(driver_url(os.environ["DATABASE_URL"]), pool_size=32)
    publisher = CeleryPublisher(producer(os.environ["REDIS_URL"]))

    @app.post("/")
    def submit() -> ResponseReturnValue:
        row_id = uuid.uuid4().hex
        with engine.begin() as connection:
            connection.execute(INSERT, {"id": row_id, "body": request.get_json()["certificate"]})
        publisher.publish([WakeUp(Task.VALIDATE, row_id)])
        return {"id": row_id}, 202

    @app.get("/healthz")
    def healthz() -> ResponseReturnValue:
        return {}

    return app
