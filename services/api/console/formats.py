"""How values are shown: times, ages, days left, states as badges with words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from services.api.console.language import N_, _, ngettext
from shared.errors import FieldError

NOTHING: Final = "—"
"""Shown where there is no value."""

SOON: Final = timedelta(days=30)
URGENT: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """A word with a mark and a tone (``good``, ``busy``, ``warn``, ``bad``, ``quiet``): never colour alone."""

    word: str
    tone: str


_STATES: Final[Mapping[str, tuple[str, str]]] = {
    "ok": (N_("ok"), "good"),
    "succeeded": (N_("succeeded"), "good"),
    "deployed": (N_("deployed"), "good"),
    "bound": (N_("bound"), "good"),
    "valid": (N_("valid"), "good"),
    "delivered": (N_("delivered"), "good"),
    "queued": (N_("queued"), "busy"),
    "pending": (N_("pending"), "busy"),
    "validating": (N_("validating"), "busy"),
    "deploying": (N_("deploying"), "busy"),
    "binding": (N_("binding"), "busy"),
    "unbinding": (N_("unbinding"), "busy"),
    "removing": (N_("removing"), "busy"),
    "deleting": (N_("deleting"), "busy"),
    "partially_succeeded": (N_("partly succeeded"), "warn"),
    "failed": (N_("failed"), "bad"),
    "started": (N_("at work"), "busy"),
    "lost": (N_("answer lost"), "warn"),
    "failing": (N_("failing"), "bad"),
    "rejected": (N_("rejected"), "bad"),
    "exhausted": (N_("given up"), "bad"),
    "cancelled": (N_("cancelled"), "quiet"),
    "removed": (N_("removed"), "quiet"),
    "deleted": (N_("deleted"), "quiet"),
    "unknown": (N_("unknown"), "quiet"),
    "enabled": (N_("enabled"), "good"),
    "disabled": (N_("disabled"), "quiet"),
    "live": (N_("live"), "good"),
    "expired": (N_("expired"), "quiet"),
    "revoked": (N_("revoked"), "quiet"),
    "invited": (N_("invited"), "busy"),
    "sent": (N_("sent"), "good"),
    "suppressed": (N_("no longer wanted"), "quiet"),
    "recorded": (N_("recorded only"), "quiet"),
    "acknowledged": (N_("acknowledged"), "busy"),
    "snoozed": (N_("snoozed"), "quiet"),
    "muted": (N_("muted"), "warn"),
    "running": (N_("running"), "busy"),
    "finished": (N_("finished"), "good"),
    "match": (N_("served"), "good"),
    "mismatch": (N_("something else is served"), "bad"),
    "unreachable": (N_("unreachable"), "bad"),
    "not_checked": (N_("not checked"), "quiet"),
    "closed": (N_("tried as usual"), "good"),
    "half_open": (N_("the next try decides"), "warn"),
    "open": (N_("left alone for now"), "bad"),
    "error": (N_("error"), "bad"),
    "warning": (N_("warning"), "warn"),
    "fixed": (N_("fixed for you"), "good"),
}


_KINDS: Final[Mapping[str, str]] = {
    "create": N_("Create"),
    "deploy": N_("Add regions"),
    "retry": N_("Retry"),
    "renew": N_("Renew"),
    "replace": N_("Replace"),
    "remove": N_("Remove"),
    "create_listener": N_("Create listener"),
    "change_listener": N_("Change listener"),
    "delete_listener": N_("Delete listener"),
}


def job_kind(kind: str) -> str:
    """What a job does, as a title."""
    return _(_KINDS[kind]) if kind in _KINDS else kind.replace("_", " ")


def badge(state: str) -> Badge:
    """The badge of any state of ours; one that is not known shows as it is spelled."""
    word, tone = _STATES.get(state, (state.replace("_", " "), "quiet"))
    return Badge(word=_(word), tone=tone)


def expiry(not_after: datetime | None, now: datetime) -> Badge:
    """How long a certificate is good for, in words."""
    if not_after is None:
        return Badge(word=_("not known yet"), tone="quiet")
    left = not_after - now
    if left <= timedelta(0):
        return Badge(word=_("expired"), tone="bad")
    days = left.days
    words = ngettext("%(count)d day left", "%(count)d days left", days) % {"count": days}
    if left <= URGENT:
        return Badge(word=words, tone="bad")
    return Badge(word=words, tone="warn" if left <= SOON else "good")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Regions in which a certificate is in the same state. ``served`` is set where it is deployed."""

    state: str
    served: str | None
    regions: list[str]


def by_state(deployments: Iterable[Mapping[str, Any]]) -> list[Alike]:
    """A certificate's regions, those that are alike together; first the largest group."""
    found: dict[tuple[str, str | None], list[str]] = {}
    for one in deployments:
        served = one["served"]["state"] if one["state"] == "deployed" else None
        found.setdefault((one["state"], served), []).append(one["region"])
    alike = [Alike(state=state, served=served, regions=regions) for (state, served), regions in found.items()]
    return sorted(alike, key=lambda one: -len(one.regions))


def moment(at: datetime | None) -> str:
    """A time to the minute, in UTC and saying so."""
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else NOTHING


def day(at: datetime | None) -> str:
    """A date in UTC."""
    return f"{at:%Y-%m-%d}" if at else NOTHING


def age(at: datetime | None, now: datetime) -> str:
    """How long ago, in the largest unit that fits."""
    if at is None:
        return _("never")
    seconds = max(0, int((now - at).total_seconds()))
    for size, words in _UNITS:
        if seconds >= size:
            count = seconds // size
            return words(count) % {"count": count}
    return _("just now")


def has_mistake(error: object, name: str) -> bool:
    """Whether what was refused names this field of a form, or something in it (``regions.0``)."""
    errors: tuple[FieldError, ...] = getattr(error, "errors", ())
    return any(one.field == name or one.field.startswith(f"{name}.") for one in errors)


def query(current: Mapping[str, Any], **changes: Any) -> str:
    """``?…`` with the changes applied; what is empty is left out."""
    kept = {name: value for name, value in {**current, **changes}.items() if value not in (None, "")}
    return f"?{urlencode(kept)}"


_UNITS: Final[tuple[tuple[int, Callable[[int], str]], ...]] = (
    (86_400, lambda count: ngettext("%(count)d day ago", "%(count)d days ago", count)),
    (3_600, lambda count: ngettext("%(count)d hour ago", "%(count)d hours ago", count)),
    (60, lambda count: ngettext("%(count)d minute ago", "%(count)d minutes ago", count)),
    (10, lambda count: ngettext("%(count)d second ago", "%(count)d seconds ago", count)),
)

FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "badge": badge,
    "by_state": by_state,
    "job_kind": job_kind,
    "expiry": expiry,
    "moment": moment,
    "day": day,
    "age": age,
}
