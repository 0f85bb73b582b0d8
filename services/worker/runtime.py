"""What the worker process holds: settings, one context, and the ways to the outside; built on first use.

Celery imports tasks before the process is ready to open connections, hence not at import.
"""

from __future__ import annotations

import os
import threading
from functools import lru_cache

from services.worker.mail import SmtpMailer
from services.worker.probe import TlsProber
from services.worker.webhook_http import HttpWebhookSender
from shared.config.settings import Settings, load_settings
from shared.usecases.clock import utc_now
from shared.usecases.context import Context, build_context
from shared.usecases.driver_registry import build_driver
from shared.usecases.region_tools import RegionTools
from shared.usecases.source_registry import build_source
from shared.usecases.source_tools import SourceTools
from shared.usecases.stopping import Stopping
from shared.usecases.webhook_delivery import Courier
from shared.usecases.webhook_trials import Trials

_once = threading.Lock()


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The environment, read once a process.

    Raises:
        Misconfigured: listing every problem at once.
    """
    return load_settings(os.environ)


@lru_cache(maxsize=1)
def _context() -> Context:
    return build_context(settings())


def context() -> Context:
    """Settings, database, vault, publisher; the first thread builds them, the others wait."""
    with _once:
        return _context()


@lru_cache(maxsize=1)
def _courier() -> Courier:
    return Courier(
        context=_context(),
        sender=HttpWebhookSender.from_settings(settings()),
        trials=Trials(settings().webhook_trial_threads, stopping()),
        clock=utc_now,
        stopping=stopping(),
    )


def courier() -> Courier:
    """Delivers webhooks; one a process, because its threads share the places for receivers that are tried out."""
    with _once:
        return _courier()


@lru_cache(maxsize=1)
def mailer() -> SmtpMailer:
    """Sends mail."""
    return SmtpMailer.from_settings(settings())


_stopping = Stopping()


def stopping() -> Stopping:
    """Whether this process is to end."""
    return _stopping


@lru_cache(maxsize=1)
def region_tools() -> RegionTools:
    """Drivers by entry point, a prober that knocks as clients do, the clock."""
    return RegionTools(driver_for=build_driver, prober=TlsProber(), clock=utc_now, stopping=stopping())


@lru_cache(maxsize=1)
def source_tools() -> SourceTools:
    """Sources by entry point, and the clock."""
    return SourceTools(source_for=build_source, clock=utc_now)
