"""What the operator declares: whether a request names regions that there are."""

from __future__ import annotations

from collections.abc import Iterable

from shared.config.regions import is_region_id
from shared.errors import FieldError, Rejected
from shared.usecases.context import Context


def check_regions(context: Context, regions: Iterable[str]) -> None:
    """Every region is one that the operator declares.

    Raises:
        Rejected: naming each that is not, and those that are.
    """
    known = context.settings.regions
    errors = tuple(
        FieldError(
            field=f"regions.{position}",
            code="unknown_region",
            message=f"There is no region {region!r}." if is_region_id(region) else "This is not a region's id.",
            hint=f"Choose from: {', '.join(known)}.",
        )
        for position, region in enumerate(regions)
        if region not in known
    )
    if errors:
        raise Rejected("A region is not known.", code="unknown_region", errors=errors)
