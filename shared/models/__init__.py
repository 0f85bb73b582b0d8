"""Rows: one class per concept."""

from shared.models.accounts import Account, ApiToken, AuditEntry, IdempotentAnswer
from shared.models.attempts import Attempt
from shared.models.base import Base, Leased
from shared.models.certificates import Certificate
from shared.models.events import Event, EventCounter
from shared.models.jobs import Deployment, Job, JobDeployment
from shared.models.listeners import Balancer, JobListener, Listener, ListenerHost
from shared.models.notices import Notice
from shared.models.people import ConsoleSession, Person, SignInCount, SignInLink
from shared.models.reminders import CalendarFeed, PeriodicRun, Reminder, Unsubscribed
from shared.models.secrets import Purpose, Secret
from shared.models.sources import Acquisition, ManagedCertificate, SourceCatalogue
from shared.models.webhook_replays import WebhookReplay
from shared.models.webhooks import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookLane

__all__ = [
    "Account",
    "Acquisition",
    "ApiToken",
    "Attempt",
    "AuditEntry",
    "Balancer",
    "Base",
    "CalendarFeed",
    "Certificate",
    "ConsoleSession",
    "Deployment",
    "Event",
    "EventCounter",
    "IdempotentAnswer",
    "Job",
    "JobDeployment",
    "JobListener",
    "Leased",
    "Listener",
    "ListenerHost",
    "ManagedCertificate",
    "Notice",
    "PeriodicRun",
    "Person",
    "Purpose",
    "Reminder",
    "Secret",
    "SignInCount",
    "SignInLink",
    "SourceCatalogue",
    "Unsubscribed",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookLane",
    "WebhookReplay",
]
