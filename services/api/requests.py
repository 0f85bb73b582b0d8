"""From checked bodies to what use cases take."""

from __future__ import annotations

from typing import Any

from shared.domain.certificates import CertificateSource, CertificateType
from shared.usecases.submission import NewCertificate


def new_certificate(body: dict[str, Any]) -> NewCertificate:
    """A body of ``CertificateIn`` or ``UploadIn``; a contact named twice is one contact."""
    thresholds = body["reminder_thresholds"]
    return NewCertificate(
        name=body["name"],
        source=CertificateSource(body["source"]),
        type=CertificateType(body["type"]),
        certificate=body["certificate"],
        private_key=body["private_key"],
        managed_certificate_id=body["managed_certificate_id"],
        regions=tuple(body["regions"]),
        callback_url=body["callback_url"],
        contacts=tuple(dict.fromkeys(body["contacts"])),
        tags=body["tags"],
        reminder_thresholds=None if thresholds is None else tuple(sorted(thresholds, reverse=True)),
    )
