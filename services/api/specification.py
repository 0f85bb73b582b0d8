"""OpenAPI 3.1: what the framework derives from routes and schemas, completed with what it does not know."""

from __future__ import annotations

import inspect
from http import HTTPStatus
from typing import Any, Final

from apiflask import APIFlask
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, class_registry

from services.api.errors import PROBLEM
from shared.domain.scopes import Scope
from shared.events.catalogue import MEANING
from shared.schemas.errors import ProblemOut
from shared.schemas.event_data import RESERVED
from shared.schemas.events import EventOut

Document = dict[str, Any]

OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Addresses that take no token, with /openapi.json and /docs."""

_DESCRIPTION: Final = """\
Certificates for a fleet of regional load balancers: one request, every region, and everyone is told.

Send `Authorization: Bearer <token>`. Bodies are JSON objects of at most 1 MiB; unknown fields are refused. Lists answer
`{items, next_cursor}`. A POST may carry an `Idempotency-Key`: the same key with the same body answers as before, with
`Idempotency-Replayed: true`. Times are RFC 3339 in UTC. Every refusal is `application/problem+json` with a stable
`code`.
"""

_PROBLEMS: Final = {
    HTTPStatus.BAD_REQUEST: "The body is not a JSON object.",
    HTTPStatus.UNAUTHORIZED: "The bearer token is missing or not valid.",
    HTTPStatus.FORBIDDEN: "The token lacks a scope.",
    HTTPStatus.NOT_FOUND: "Nothing of that id in this account.",
    HTTPStatus.CONFLICT: "Not in this state; context says what is in the way.",
    HTTPStatus.GONE: "Events that were asked for are no longer kept; hint says where to go on.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than 1 MiB.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not declared as JSON.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Fields were refused; errors names each.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Try again; Retry-After says when.",
}
_OF_ALL: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE)
_OF_BODIES: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
_MAY_CONFLICT: Final = frozenset({("post", "/v1/listeners")})
"""Beside every change of something that is there already: host names that another listener answers for."""
_SIGNATURE: Final = {
    "webhook-id": "The event's id, the same at every attempt.",
    "webhook-timestamp": "When this attempt was made, in seconds since 1970.",
    "webhook-signature": "Standard Webhooks: v1,<base64 of HMAC-SHA256 over id.timestamp.body>.",
}
_KEY_PARAMETER: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Repeat the request with the same key and body, and it happens once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


_IN_PATHS: Final = {
    "listener_id": "Listener id, from GET /v1/listeners.",
    "certificate_id": "Certificate id.",
    "delivery_id": "Delivery id.",
    "feed_id": "Calendar feed id.",
    "job_id": "Job id.",
    "kind": "`certificate`, `private_key` or `ca`.",
    "region": "Region id.",
    "replay_id": "Replay id.",
    "webhook_id": "Endpoint id.",
}
"""What stands for what in an address."""


class Application(APIFlask):
    """APIFlask, which registers a schema twice, under two names, if another one holds it before a route answers it."""

    def _register_schema_and_get_ref(
        self, spec: APISpec, registered_schema_classes: dict[int, str], schema_obj: Any
    ) -> dict[str, str]:
        name = type(schema_obj).__name__
        if isinstance(schema_obj, Schema) and name in spec.components.schemas:
            return {"$ref": f"#/components/schemas/{name}"}
        return super()._register_schema_and_get_ref(spec, registered_schema_classes, schema_obj)


def register(app: APIFlask) -> None:
    """Complete the document that the application serves at /openapi.json."""
    app.description = _DESCRIPTION
    app.servers = [{"url": "/"}]
    app.config["AUTO_404_RESPONSE"] = False
    app.config["AUTO_AUTH_ERROR_RESPONSE"] = False
    app.config["AUTO_VALIDATION_ERROR_RESPONSE"] = False
    app.config["AUTO_OPERATION_ID"] = True
    app.config["SECURITY_SCHEMES"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": f"Scopes: {', '.join(Scope)}."}
    }
    app.spec_processor(_completed)


def scope_of(method: str, path: str) -> Scope | None:
    """What a token needs for a route; None for those without a token."""
    if path in OPEN:
        return None
    if path.endswith("/download"):
        return Scope.DOWNLOAD
    if path.endswith("/callback-secret"):
        return Scope.WRITE
    return Scope.READ if method.upper() == "GET" else Scope.WRITE


def _completed(document: dict[str, Any] | str) -> dict[str, Any] | str:
    if isinstance(document, str):
        return document
    document["components"]["schemas"] |= _extra_schemas()
    for name, schema in document["components"]["schemas"].items():
        schema["description"] = inspect.getdoc(class_registry.get_class(name, all=False))
    document["tags"] = [{"name": name} for name in dict.fromkeys(tag["name"] for tag in document["tags"])]
    document["security"] = [{"bearer": []}]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(operation, method, path, schemas=document["components"]["schemas"])
    document["webhooks"] = {event_type: _webhook(event_type, meaning) for event_type, meaning in MEANING.items()}
    return document


def _extra_schemas() -> dict[str, Any]:
    """Shapes that no route mentions as its own."""
    spec = APISpec(title="", version="", openapi_version="3.1.0", plugins=[MarshmallowPlugin()])
    for schema in (ProblemOut, EventOut):
        if schema.__name__ not in spec.components.schemas:
            spec.components.schema(schema.__name__, schema=schema)
    return dict(spec.components.schemas)


def _complete(operation: Document, method: str, path: str, *, schemas: Document) -> None:
    for parameter in operation.get("parameters", ()):
        _complete_parameter(parameter)
    scope = scope_of(method, path)
    if scope is None:
        operation["security"] = []
        return
    operation["security"] = [{"bearer": [scope.value]}]
    _complete_body(operation, schemas)
    if method == "post":
        operation.setdefault("parameters", []).append(_KEY_PARAMETER)
    for status in sorted(_statuses(operation, method, path)):
        content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/ProblemOut"}}}
        operation["responses"][str(status.value)] = {"description": _PROBLEMS[status], "content": content}


def _complete_parameter(parameter: Document) -> None:
    """A URL cannot say null: a parameter that may be left out is left out."""
    if parameter["in"] == "path":
        parameter["description"] = _IN_PATHS[parameter["name"]]
    schema = parameter["schema"]
    schema.pop("nullable", None)
    if schema.get("default", ...) is None:
        del schema["default"]
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]


def _complete_body(operation: Document, schemas: Document) -> None:
    """A body is required where a field of it is; one without fields is not worth mentioning."""
    body = operation.get("requestBody")
    if body is None:
        return
    name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    if not schemas[name].get("properties"):
        del operation["requestBody"]
        return
    body["required"] = bool(schemas[name].get("required"))


def _statuses(operation: Document, method: str, path: str) -> list[HTTPStatus]:
    statuses = list(_OF_ALL)
    if "requestBody" in operation:
        statuses += _OF_BODIES
    elif method == "post" or any(one["in"] == "query" for one in operation.get("parameters", ())):
        statuses.append(HTTPStatus.UNPROCESSABLE_ENTITY)
    if "{" in path:
        statuses.append(HTTPStatus.NOT_FOUND)
    if ("{" in path and method != "get") or path.endswith("/download") or (method, path) in _MAY_CONFLICT:
        statuses.append(HTTPStatus.CONFLICT)
    if path.endswith("/events") or path == "/v1/webhooks/{webhook_id}/replay":
        statuses.append(HTTPStatus.GONE)
    return statuses


def _webhook(event_type: str, meaning: str) -> Document:
    header = {"in": "header", "required": True, "schema": {"type": "string"}}
    schema = {
        "allOf": [{"$ref": "#/components/schemas/EventOut"}],
        "properties": {"type": {"const": str(event_type)}},
    }
    return {
        "post": {
            "summary": f"{meaning} Reserved: not sent by this version." if event_type in RESERVED else meaning,
            "operationId": "webhook_" + event_type.replace(".", "_"),
            "security": [],
            "parameters": [{"name": name, "description": text, **header} for name, text in _SIGNATURE.items()],
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {"2XX": {"description": "Received; anything else is tried again."}},
        }
    }
