"""Host names of a region: one listener each, whoever asks first, and nothing is told about another account's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from sqlalchemy import delete

from shared.domain.listeners import ListenerState
from shared.models import JobListener, Listener, ListenerHost, leases
from tests.support.api import Api, Client, answer
from tests.support.listener_requests import HOST, body, bound, server, server_of, show

RACERS = 20


def again(api: Api, client: Client) -> Client:
    """The same caller on a connection of its own."""
    return Client(http=api.app.test_client(), token=client.token)


def test_of_twenty_requests_for_a_name_exactly_one_gets_it(api: Api) -> None:
    stranger = api.account("stranger")
    callers = [api.client, stranger] * (RACERS // 2)
    certificates = [server_of(api, caller) for caller in callers]
    start = Barrier(RACERS)

    def ask(number: int) -> tuple[int, str]:
        client = again(api, callers[number])
        start.wait(timeout=30)
        response = client.post("/v1/listeners", body(certificates[number]))
        return response.status_code, answer(response).get("code", "")

    with ThreadPoolExecutor(RACERS) as threads:
        answers = sorted(threads.map(ask, range(RACERS)))
    assert answers == [(202, "")] + [(409, "host_taken")] * (RACERS - 1)
    assert len(api.client.items("/v1/listeners") + stranger.items("/v1/listeners")) == 1


def test_a_name_given_up_and_asked_for_at_once_makes_no_server_error(api: Api) -> None:
    """A listener that was never bound gives up its name in the same moment in which others ask for it."""
    mine, others = server(api), [server_of(api, api.client) for _ in range(4)]
    for _ in range(5):
        failed = answer(api.client.post("/v1/listeners", body(mine)))["listener"]["id"]
        fail(api, failed)
        start = Barrier(len(others) + 1)

        def give_up(start: Barrier, listener_id: str) -> int:
            client = again(api, api.client)
            start.wait(timeout=30)
            return client.patch(f"/v1/listeners/{listener_id}", {"hosts": [f"www.{HOST}"]}).status_code

        def ask(start: Barrier, certificate_id: str) -> int:
            client = again(api, api.client)
            start.wait(timeout=30)
            return client.post("/v1/listeners", body(certificate_id)).status_code

        with ThreadPoolExecutor(len(others) + 1) as threads:
            given_up = threads.submit(give_up, start, failed)
            asked = [threads.submit(ask, start, one) for one in others]
        assert given_up.result() == 202
        assert {one.result() for one in asked} <= {202, 409}
        clear(api)


def test_the_own_listener_in_the_way_is_named(api: Api) -> None:
    server_id = server(api)
    listener_id = bound(api, server_id)["id"]
    taken = answer(api.client.post("/v1/listeners", body(server_id)))
    assert taken["context"] == {"hosts": [HOST], "listeners": [listener_id]}
    assert listener_id in taken["hint"]


def test_the_name_may_be_in_every_region(api: Api) -> None:
    server_id = server(api)
    bound(api, server_id)
    assert bound(api, server_id, region="us-west-1")["state"] == "bound"


def test_a_name_that_a_change_asks_for_is_taken_at_once(api: Api) -> None:
    server_id = server(api)
    listener_id = bound(api, server_id)["id"]
    accepted = api.client.patch(f"/v1/listeners/{listener_id}", {"hosts": [f"www.{HOST}"]})
    assert accepted.status_code == 202
    for host in (HOST, f"www.{HOST}"):
        taken = api.client.post("/v1/listeners", body(server_id, hosts=[host]))
        assert (taken.status_code, answer(taken)["code"]) == (409, "host_taken")


def test_another_account_neither_sees_a_listener_nor_learns_whose_the_name_is(api: Api) -> None:
    listener = bound(api, server(api))
    stranger = api.account("stranger")
    assert stranger.get(f"/v1/listeners/{listener['id']}").status_code == 404
    assert stranger.patch(f"/v1/listeners/{listener['id']}", {"name": "mine"}).status_code == 404
    assert stranger.delete(f"/v1/listeners/{listener['id']}").status_code == 404
    assert stranger.items("/v1/listeners") == []
    assert stranger.items(f"/v1/listeners?certificate_id={listener['server_certificate_id']}") == []
    taken = stranger.post("/v1/listeners", body(server_of(api, stranger)))
    assert (taken.status_code, answer(taken)["code"]) == (409, "host_taken")
    assert listener["id"] not in taken.text
    assert show(api.client, listener["id"])["name"] == "shop"


def test_nobody_takes_or_learns_the_names_below_his_wildcard(api: Api) -> None:
    """Anybody can make a certificate of ``*.example.com``: it must not list who else has names there."""
    bound(api, server(api))
    stranger = api.account("stranger")
    wildcard = server_of(api, stranger, "*.example.com")
    taken = stranger.post("/v1/listeners", body(wildcard, hosts=["*.example.com"]))
    assert (taken.status_code, answer(taken)["code"]) == (409, "host_taken")
    assert answer(taken)["context"] == {"hosts": ["*.example.com"], "listeners": []}
    assert HOST not in taken.text


def test_nobody_takes_a_name_below_anothers_wildcard(api: Api) -> None:
    stranger = api.account("stranger")
    wildcard = server_of(api, stranger, "*.example.com")
    assert stranger.post("/v1/listeners", body(wildcard, hosts=["*.example.com"])).status_code == 202
    taken = answer(api.client.post("/v1/listeners", body(server(api))))
    assert (taken["code"], taken["context"]["hosts"]) == ("host_taken", [HOST])
    assert "*" not in taken["detail"]


def test_an_account_may_have_names_below_its_own_wildcard(api: Api) -> None:
    both = server_of(api, api.client, "*.example.com", HOST)
    assert bound(api, both, hosts=["*.example.com"])["state"] == "bound"
    assert bound(api, both)["state"] == "bound"


def fail(api: Api, listener_id: str) -> None:
    """As after the last attempt: never bound, nobody at work."""
    with api.fleet.transaction() as session:
        listener = session.get_one(Listener, listener_id)
        listener.state = ListenerState.FAILED
        leases.finished(listener)
    api.fleet.room.waiting.clear()


def clear(api: Api) -> None:
    """No listener is left."""
    with api.fleet.transaction() as session:
        for model in (ListenerHost, JobListener, Listener):
            session.execute(delete(model))
    api.fleet.room.waiting.clear()
