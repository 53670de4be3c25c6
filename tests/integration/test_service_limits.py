"""How many queries a service is asked at a time, and that what is cached waits for none of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.fault.proxy import Fault, FaultProxy
from tests.integration.test_node_secrets import VOTABLE
from tests.servers.pantryd import PantryDaemon
from tests.servers.qa_service import Answer, QaService

from pantry.backends.admission import QUIET_S
from pantry.client import Node, QueryService
from pantry.daemon.credentials.renewed import HOLDS_S
from pantry.wire.operations import BackendInfo

LATEST_S = 30.0


@pytest.fixture
def service() -> Iterator[QaService]:
    with QaService() as made:
        made.always(Answer(body=VOTABLE, headers={"Content-Type": "application/x-votable+xml"}))
        yield made


@pytest.fixture
def proxy(service: QaService) -> Iterator[FaultProxy]:
    with FaultProxy(("127.0.0.1", service.port)) as made:
        yield made


def configured(proxy: FaultProxy, service: QaService, **more: Any) -> dict[str, Any]:
    return {
        "limits": {"services": 3, "services_per_user": 3, "spacing_s": 0},
        "services": {
            "slow": {"root": f"tap+{proxy.endpoint_url}/tap", "ttl_s": 3600, **more},
            "other": {"root": f"tap+{service.url}/tap", "ttl_s": 3600},
        },
        "queries": {
            **{
                f"slow{number}": {"service": "slow", "text": " ".join(("SELECT n FROM", f"t{number}"))}
                for number in range(4)
            },
            "quick": {"service": "other", "text": "SELECT n FROM t"},
        },
    }


def ask(daemon: PantryDaemon, name: str) -> list[int]:
    return list(QueryService(socket=daemon.socket).ask(name)["n"])


def test_a_cached_answer_waits_for_no_query(
    make_daemon: Callable[..., PantryDaemon], proxy: FaultProxy, service: QaService
) -> None:
    """All that may be asked of services at a time is under way, and nothing comes of it."""
    daemon = make_daemon(configured(proxy, service))
    assert ask(daemon, "quick") == [1]
    assert ask(daemon, "slow0") == [1]
    go_on = threading.Event()
    before = proxy.count()
    proxy.choose = lambda _: Fault(wait_for=go_on)
    with ThreadPoolExecutor(5) as pool:
        try:
            waiting = [pool.submit(ask, daemon, f"slow{number}") for number in (1, 2, 3)]
            deadline = time.monotonic() + LATEST_S
            while proxy.count() < before + 3:
                assert time.monotonic() < deadline
            # Longer than what a service was asked with is believed; and no turn is taken back so early.
            begun = time.monotonic()
            while time.monotonic() < begun + 1.5 * HOLDS_S:
                assert pool.submit(ask, daemon, "quick").result(LATEST_S) == [1]
                assert pool.submit(ask, daemon, "slow0").result(LATEST_S) == [1]
            assert time.monotonic() < begun + 0.8 * QUIET_S, "they waited for a turn"
        finally:
            go_on.set()
        assert [one.result() for one in waiting] == [[1], [1], [1]]


def test_never_more_queries_than_the_service_may_have(
    make_daemon: Callable[..., PantryDaemon], proxy: FaultProxy, service: QaService
) -> None:
    """One of four passes, and the two other places of the node are for others."""
    daemon = make_daemon(configured(proxy, service, max_concurrent=1))
    go_on = threading.Event()
    proxy.choose = lambda _: Fault(wait_for=go_on)

    def slow() -> BackendInfo | None:
        return next((one for one in Node(daemon.socket).backends() if one.name == "slow"), None)

    with ThreadPoolExecutor(5) as pool:
        try:
            asked = [pool.submit(ask, daemon, f"slow{number}") for number in range(4)]
            deadline = time.monotonic() + LATEST_S
            while (found := slow()) is None or found.waiting < 3 or not proxy.count():
                assert time.monotonic() < deadline, found
            assert (found.max_concurrent, found.under_way) == (1, 1)
            assert pool.submit(ask, daemon, "quick").result(LATEST_S) == [1]
            assert proxy.count() == 1
        finally:
            go_on.set()
        assert [one.result() for one in asked] == [[1]] * 4
    after = slow()
    assert after is not None
    assert (after.under_way, after.waiting, after.requests) == (0, 0, 4)
