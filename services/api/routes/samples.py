"""/v1/samples: what goes into each field of the form."""

from __future__ import annotations

from typing import Final, cast, get_args

from apiflask.types import ResponseReturnValueType

from services.api.calls import authorized
from services.api.resource import Resource
from shared.crypto.samples import SampleKind, sample
from shared.domain.scopes import Scope
from shared.errors import NotFound
from shared.schemas.samples import SampleOut

blueprint = Resource("samples", __name__, tag="Certificates")

KINDS: Final = get_args(SampleKind)


@blueprint.get("/v1/samples/<kind>")
@authorized(Scope.READ)
@blueprint.answers(SampleOut)
def show(kind: str) -> ResponseReturnValueType:
    """View a sample: certificate, private_key or ca."""
    if kind not in KINDS:
        raise NotFound(f"There is no sample {kind!r}.", hint=f"Choose from: {', '.join(KINDS)}.")
    return {"kind": kind, "pem": sample(cast("SampleKind", kind))}
