"""A group of routes: APIFlask's blueprint, told that any marshmallow schema will do."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from apiflask import APIBlueprint
from apiflask.types import DecoratedType
from marshmallow import RAISE, Schema


class Resource(APIBlueprint):
    """``input`` and ``output`` ask for APIFlask's own Schema class, which ``shared`` must not know; any works."""

    def takes(self, schema: type[Schema], *, location: str = "json") -> Callable[[DecoratedType], DecoratedType]:
        """The view gets what the schema loaded, as ``json_data`` or ``query_data``; unknown fields are refused."""
        return self.input(cast("Any", schema), location=location, unknown=RAISE)

    def answers(
        self, schema: type[Schema], status: HTTPStatus = HTTPStatus.OK, *, description: str = "Done."
    ) -> Callable[[DecoratedType], DecoratedType]:
        """What the view returns is written by the schema."""
        return self.output(cast("Any", schema), status.value, description=description)
