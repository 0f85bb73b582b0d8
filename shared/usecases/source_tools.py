"""What work with certificate services uses, and which services an account has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from shared.config.settings import Settings
from shared.config.sources import CertificateService
from shared.errors import Misconfigured, Unreachable
from shared.models import Account
from shared.usecases.accounts import ID_PREFIX
from shared.usecases.clock import Clock
from shared.usecases.source import Source

log = structlog.get_logger(__name__)

SourceFor = Callable[[CertificateService], Source]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTools:
    """How to get a service's source, and the time."""

    source_for: SourceFor
    clock: Clock

    def open_source(self, service: CertificateService) -> Source:
        """The service's source.

        Raises:
            Unreachable: the operator's settings are wrong, which is put right without us: worth another try.
        """
        try:
            return self.source_for(service)
        except Misconfigured as error:
            log.warning("source_misconfigured", object=service.id, error="; ".join(error.problems))
            raise Unreachable(
                f"The certificate service {service.name} is not set up.",
                code="source_misconfigured",
                hint="The operator finds the reason in the worker's log.",
            ) from error


def services_of(settings: Settings, account: Account) -> dict[str, CertificateService]:
    """The services that are declared for this account, by id. A name that is spelled like another's id counts not."""
    names = {account.id} if account.name.startswith(ID_PREFIX) else {account.id, account.name}
    return {service.id: service for service in settings.sources.values() if service.account in names}


def find_service(session: Session, settings: Settings, account_id: str, source: str) -> CertificateService:
    """The account's service of this id.

    Raises:
        Unreachable: it is not declared (any more, or where this process runs): worth another try.
    """
    service = services_of(settings, session.get_one(Account, account_id)).get(source)
    if service is None:
        raise Unreachable(
            f"The certificate service {source} is not declared for this account.",
            code="source_undeclared",
            hint="The operator declares it in the sources file.",
        )
    return service
