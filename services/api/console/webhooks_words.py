"""Words of the webhook pages: the host of an address, and what use cases and events say, translated when shown."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from services.api.console.language import N_
from shared.events.catalogue import MEANING, EventType

MEANINGS: Final = (
    N_("A job was accepted."),
    N_("Every region answered as wished."),
    N_("Some regions answered as wished, others failed for good."),
    N_("The upload was refused, or no region answered as wished."),
    N_("The job was cancelled; `regions` says which had begun, and finished."),
    N_("The upload passed validation; `findings` says what was noticed or repaired."),
    N_("The upload failed validation; `findings` says why, field by field."),
    N_("The certificate crossed a reminder threshold."),
    N_("The certificate is past its notAfter."),
    N_("New content took the certificate's place."),
    N_("The certificate was removed everywhere and its key destroyed."),
    N_("A worker began an attempt in the region."),
    N_("The region holds the certificate, read back by fingerprint."),
    N_("The region failed for good, or was `cancelled` there; it can be retried by itself."),
    N_("An attempt failed; the next one is at `error.next_attempt_at`."),
    N_("The region no longer holds the certificate."),
    N_("The region serves or holds something else than what was deployed; `error` names it."),
    N_("The region serves and holds what was deployed again."),
    N_("A listener was created, changed or deleted."),
    N_("Sent on request to one endpoint, to try it out."),
)
"""Those of :data:`shared.events.catalogue.MEANING`, so that they are translated; a test holds the two together."""

SAID: Final = (
    N_("Some fields need another look."),
    N_("Disabled by request."),
    N_("The receiver answered 410 Gone."),
    N_("A filter matches no type of event."),
    N_("Use a type such as deployment.failed, or a pattern such as deployment.* or *."),
    N_("A region is not known."),
    N_("The URL is not https."),
    N_("Webhooks leave only over https."),
    N_("Use a URL like https://example.com/hook."),
    N_("Use a publicly reachable https URL, or ask the operator to allow the network."),
    N_("This field is required."),
    N_("Add the field."),
    N_("Keep to the length named."),
    N_("The delivery is on its way at this moment."),
    N_("A replay of this webhook is running."),
    N_("A replay begins after a sequence or since a time."),
    N_("Send one of after and since."),
    N_("It is not a time with an offset, nor a date."),
)
"""What use cases and schemas answer."""


def host_of(url: str) -> str:
    """Where a webhook goes, as far as it is no secret: paths and queries often are."""
    return urlsplit(url).netloc.rpartition("@")[2]


def subscribable() -> list[tuple[str, str]]:
    """The types that one can listen to, with their meaning in English."""
    return [(kind.value, MEANING[kind]) for kind in EventType if kind is not EventType.WEBHOOK_TEST]
