"""The way out to webhook receivers: one POST to an address that was checked, cut off at a wall-clock deadline.

Built on ``http.client``, which has no redirects, no retries and no proxies from the environment (the layer above it,
urllib3, logs the URL when a receiver's headers are malformed; URLs may carry secrets). A name is resolved once; every
address it has must be allowed, and what was checked is what is dialled, while ``Host``, SNI and the certificate's check
keep the name. A socket timeout restarts with each byte that drips in, so a watchdog shuts the socket down when time is
up.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import timedelta
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection

from services.worker.watchdog import Watch, Watchdog
from shared.config.settings import Network, Settings
from shared.domain.network_policy import Target, check_address, parse_url
from shared.domain.webhooks import HEAD_BYTES, Answer, clean_head
from shared.errors import Rejected
from shared.usecases.webhook_delivery import Request

Resolver = Callable[[str, int], Sequence[str]]
"""All addresses of a name, as text, for a port."""


class HttpWebhookSender:
    """A :class:`shared.usecases.webhook_delivery.WebhookSender`. Thread-safe; keeps no connection open."""

    def __init__(
        self,
        allowed_networks: Sequence[Network] = (),
        *,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = tuple(allowed_networks)
        self._resolver = resolver or resolve
        self._tls = tls or ssl.create_default_context()
        self._watchdog = Watchdog()

    @classmethod
    def from_settings(cls, settings: Settings) -> HttpWebhookSender:
        """Real name look-ups, the system's certificate authorities, the operator's networks."""
        return cls(settings.webhook_allowed_networks)

    def send(self, request: Request, *, deadline: timedelta) -> Answer:
        """See the port. Error codes: those of ``network_policy``, and the ones that ``_error_code`` lists."""
        clock = _Clock(deadline)
        try:
            answer = self._post(request, clock)
        except Rejected as error:
            answer = Answer(error=error.code)
        except (OSError, HTTPException, ValueError) as error:
            answer = Answer(error="deadline_exceeded" if clock.is_over() else _error_code(error))
        return Answer(
            status=answer.status,
            error=answer.error,
            head=answer.head,
            retry_after=answer.retry_after,
            duration=clock.elapsed(),
        )

    def _post(self, request: Request, clock: _Clock) -> Answer:
        target = parse_url(request.url)
        dialler = _Dialler(self._addresses(target, clock), target.port, clock, self._watchdog)
        with dialler, closing(self._connection(target, dialler)) as connection:
            headers = {"connection": "close", **request.headers}
            connection.request("POST", target.path, body=request.body, headers=headers)
            with connection.getresponse() as response:
                dialler.check()
                wished = response.headers.get("retry-after")
                return Answer(status=response.status, head=_head(response), retry_after=wished)

    def _addresses(self, target: Target, clock: _Clock) -> Sequence[str]:
        """Where the target is: all of it, or nothing if one of the addresses is not allowed."""
        if target.address is not None:
            found: Sequence[str] = (str(target.address),)
        else:
            found = _within(clock, lambda: self._resolver(target.host, target.port))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        for address in found:
            check_address(address, self._allowed, scheme=target.scheme)
        return found

    def _connection(self, target: Target, dialler: _Dialler) -> HTTPConnection:
        tls = self._tls if target.scheme == "https" else None
        return _Connection(target.host, target.port, dialler=dialler, tls=tls)


def resolve(host: str, port: int) -> Sequence[str]:
    """The system's answer, each address once, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _Clock:
    """The wall-clock time that one request has."""

    def __init__(self, deadline: timedelta) -> None:
        self._started = time.monotonic()
        self._end = self._started + deadline.total_seconds()

    def left(self) -> float:
        """Seconds, at least a millisecond: sockets take 0 for "do not block"."""
        return max(self._end - time.monotonic(), 0.001)

    def is_over(self) -> bool:
        return time.monotonic() >= self._end

    def elapsed(self) -> timedelta:
        return timedelta(seconds=time.monotonic() - self._started)


class _Dialler:
    """Dials checked addresses, and shuts the one connection down when the time is up."""

    def __init__(self, addresses: Sequence[str], port: int, clock: _Clock, watchdog: Watchdog) -> None:
        self._addresses = addresses
        self._port = port
        self._clock = clock
        self._twin: socket.socket | None = None
        self._is_cut = False
        self._cutting = threading.Lock()
        self._watchdog = watchdog
        self._watch: Watch | None = None

    def __enter__(self) -> None:
        self._watch = self._watchdog.watch(self._clock.left(), self._cut)

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.call_off()
        with self._cutting:  # a number of a closed socket may be another one's already
            if self._twin is not None:
                self._twin.close()
                self._twin = None

    def dial(self) -> socket.socket:
        """Connect to the first address that answers; each gets its share of the time that is left."""
        failure: OSError = OSError("there is no address")
        for position, address in enumerate(self._addresses):
            share = self._clock.left() / (len(self._addresses) - position)
            try:
                connected = socket.create_connection((address, self._port), timeout=share)
            except OSError as error:
                failure = error
                continue
            connected.settimeout(self._clock.left())
            self._twin = connected.dup()
            if self._is_cut:
                self._cut()
            return connected
        raise failure

    def check(self) -> None:
        """Raise TimeoutError once the connection was shut down: a status whose headers never ended is no answer."""
        if self._is_cut:
            raise TimeoutError("the time was up before the answer had come")

    def _cut(self) -> None:
        """Ends every read and write on the connection, also inside a TLS handshake: the twin shares the socket."""
        with self._cutting:
            self._is_cut = True
            if self._twin is not None:
                with suppress(OSError):
                    self._twin.shutdown(socket.SHUT_RDWR)


class _Connection(HTTPConnection):
    """Knows its peer by name, dials the checked address; with TLS, the certificate must be the name's."""

    def __init__(self, host: str, port: int, *, dialler: _Dialler, tls: ssl.SSLContext | None) -> None:
        super().__init__(host, port)
        self.default_port = HTTPConnection.default_port if tls is None else HTTPSConnection.default_port
        self._dialler = dialler
        self._tls = tls

    def connect(self) -> None:
        """Called by ``request``."""
        connected = self._dialler.dial()
        self.sock = connected
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(connected, server_hostname=self.host)


def _within(clock: _Clock, work: Callable[[], Sequence[str]]) -> Sequence[str]:
    """Do it in a thread that may be left behind: name look-ups cannot be interrupted."""
    results: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(work())
        except Exception as error:  # noqa: BLE001 - handed over and raised where it is waited for
            results.put(error)

    threading.Thread(target=run, daemon=True, name="webhook-resolver").start()
    try:
        result = results.get(timeout=clock.left())
    except queue.Empty:
        raise TimeoutError("the name server does not answer") from None
    if isinstance(result, Exception):
        raise result
    return result


def _head(response: HTTPResponse) -> str:
    """What can be had of the body; the status has come, so a body that breaks off changes nothing."""
    received = b""
    with suppress(OSError, HTTPException):
        while len(received) < HEAD_BYTES and (piece := response.read1(HEAD_BYTES - len(received))):
            received += piece
    return clean_head(received)


def _error_code(error: Exception) -> str:
    known: tuple[tuple[type[Exception], str], ...] = (
        (socket.gaierror, "name_not_resolved"),
        (UnicodeError, "name_not_resolved"),
        (ssl.SSLError, "tls_failed"),
        (TimeoutError, "deadline_exceeded"),
        (OSError, "connection_failed"),
    )
    return next((code for kind, code in known if isinstance(error, kind)), "protocol_error")
