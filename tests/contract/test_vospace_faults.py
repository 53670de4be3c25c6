"""The VOSpace backend over a network and before a service that fail: success or our error, and nothing half-done."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import trio
from tests.contract.test_vospace import VospaceOutside, opened
from tests.fault.proxy import Fault, FaultProxy, Request
from tests.servers.vospace import VospaceServer

from pantry.backends.contract import ByteRange
from pantry.backends.suite_calls import descriptor, listed, pattern, read, run, write
from pantry.backends.vospace import VOSpaceBackend
from pantry.backends.vospace._blocking import UntrustedServerError, Web
from pantry.backends.vospace._documents import CORE, Endpoint
from pantry.backends.vospace._service import Service
from pantry.backends.vospace.options import VOSpaceOptions
from pantry.errors import BackendError, ObjectChangedError, TransientBackendError

CONTENT = pattern(30_000)
_numbers = itertools.count()

BY_JOBS = {"files": False, "sync_transfers": False}
DIALECTS: dict[str, dict[str, object]] = {
    "files": {},
    "negotiated": {"files": False},
    "jobs": BY_JOBS,
    "without ranges and digests": {"files": False, "ranges": False, "digests": False},
}
FAULTS = {
    "reset before the answer": Fault(cut_after=-1, reset=True),
    "reset in the answer": Fault(cut_after=40, reset=True),
    "end in the answer": Fault(cut_after=40),
    "reset in the request": Fault(cut_request_after=100, reset=True),
    "500": Fault(status=500),
    "503": Fault(status=503, headers=(("Retry-After", "0"),)),
    "503 for long": Fault(status=503, headers=(("Retry-After", "3600"),)),
    "short": Fault(truncate_to=60),
    "empty": Fault(truncate_to=0),
}
LASTING = {
    "reset": Fault(cut_after=-1, reset=True, times=-1),
    "500": Fault(status=500, times=-1),
    "503": Fault(status=503, headers=(("Retry-After", "0"),), times=-1),
    "empty": Fault(truncate_to=0, times=-1),
}


@pytest.fixture
def place(vospace: VospaceServer) -> Iterator[VospaceOutside]:
    vospace.set_dialect()
    yield VospaceOutside(vospace, f"faults/{next(_numbers):04d}")
    vospace.set_dialect()


@pytest.fixture
def proxy(vospace: VospaceServer) -> Iterator[FaultProxy]:
    with FaultProxy(("127.0.0.1", int(vospace.endpoint.split(":")[2].split("/")[0]))) as proxy:
        yield proxy


@contextmanager
def through(proxy: FaultProxy, place: VospaceOutside, **changed: object) -> Iterator[VOSpaceBackend]:
    """Make a backend that reaches the service by the proxy, as do the URLs that the service gives."""
    endpoint = f"{proxy.endpoint_url}/space"
    options: dict[str, object] = {
        "endpoint_url": endpoint,
        "max_attempts": 2,
        "read_timeout_s": 0.5,
        "job_timeout_s": 2.0,
    }
    with opened(place.server, place.path, **(options | changed)) as backend:
        yield backend


def struck(proxy: FaultProxy) -> list[Request]:
    return [request for request in proxy.requests if request.fault is not None]


def each_request(proxy: FaultProxy, fault: Fault) -> Iterator[int]:
    """Let the fault strike the first request of what is done next, then the second, until there is none."""
    for number in itertools.count():
        proxy.clear()
        proxy.inject(Fault(**{**vars(fault), "skip": number}))
        yield number
        if not struck(proxy):
            assert number > 5, "hardly anything was struck"
            return


def tried(call: Callable[[], object]) -> BackendError | None:
    try:
        call()
    except BackendError as exc:
        return exc
    return None


# -- one fault, at each request in turn ----------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("jobs", [False, True], ids=["negotiated", "by jobs"])
def test_a_write_is_whole_or_nothing(
    vospace: VospaceServer, place: VospaceOutside, proxy: FaultProxy, fault: Fault, jobs: bool
) -> None:
    vospace.set_dialect(**(BY_JOBS if jobs else {}))
    for number in each_request(proxy, fault):
        key = f"a/{number}"
        with through(proxy, place) as backend:
            failed = tried(partial(run, partial(write, backend, key, CONTENT)))
            assert place.get(key) == (CONTENT if failed is None else None), (number, failed)
            if failed is None:
                settle = partial(run, partial(backend.settle_write, key, token="t-1"))
                if tried(settle) is not None:
                    settle()  # the fault struck this
        assert place.residue() == set(), (number, failed)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_a_read_is_right_or_fails(
    vospace: VospaceServer, place: VospaceOutside, proxy: FaultProxy, fault: Fault, dialect: dict[str, object]
) -> None:
    place.put("k", CONTENT)
    vospace.set_dialect(**dialect)
    for number in itertools.count():
        proxy.clear()
        proxy.inject(Fault(**{**vars(fault), "skip": number}))
        with through(proxy, place) as backend:
            found: list[bytes] = []
            for start, stop in ((0, len(CONTENT)), (1000, 20_000)):
                failed = tried(lambda: found.append(run(partial(read, backend, "k", start, stop))))  # noqa: B023
                assert failed is not None or found[-1] == CONTENT[start:stop], number
            assert found, "one fault spoils one read at most"
        if not struck(proxy):
            break
    assert number > 2


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_listing_is_complete_or_fails(
    vospace: VospaceServer, place: VospaceOutside, proxy: FaultProxy, fault: Fault
) -> None:
    keys = {f"{directory}/{name}" for directory in "ab" for name in range(4)}
    for key in keys:
        place.put(key, b"1")
    vospace.set_dialect(page_limit=3, bare_children=True)
    for number in each_request(proxy, fault):
        with through(proxy, place) as backend:
            found: list[set[str]] = []
            failed = tried(lambda: found.append(set(run(partial(listed, backend, "")))))  # noqa: B023
            assert failed is not None or found == [keys], number


# -- a service that stays away ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", LASTING.values(), ids=LASTING)
def test_what_a_write_left_when_the_service_went_away_is_undone_later(
    place: VospaceOutside, proxy: FaultProxy, fault: Fault
) -> None:
    for number in itertools.count():
        key = f"a/{number}"
        proxy.clear()
        proxy.inject(Fault(**{**vars(fault), "skip": number}))
        with through(proxy, place) as backend:
            failed = tried(partial(run, partial(write, backend, key, b"content")))
            if not struck(proxy):
                assert failed is None
                break
            assert failed is not None, number
            proxy.clear()
            run(partial(backend.undo_write, key, token="t-1"))
        assert place.get(key) is None
        assert place.residue() == set()


def test_a_service_that_is_down_is_transient_and_comes_back(place: VospaceOutside, proxy: FaultProxy) -> None:
    place.put("k", CONTENT)
    with through(proxy, place) as backend:
        proxy.refusing = True
        for call in (backend.stat, partial(read, backend, start=0, stop=10), partial(write, backend, content=b"1")):
            with pytest.raises(TransientBackendError):
                run(partial(call, key="k"))
        proxy.refusing = False
        assert run(partial(read, backend, "k", 0, len(CONTENT))) == CONTENT


def test_how_long_the_service_wants_to_be_left_alone(place: VospaceOutside, proxy: FaultProxy) -> None:
    place.put("k", CONTENT)
    with through(proxy, place) as backend:
        run(partial(backend.stat, "k"))
        for call in (partial(backend.stat, "k"), partial(read, backend, "k", 0, 10)):
            proxy.clear()
            proxy.inject(Fault(status=503, headers=(("Retry-After", "77"),), times=-1))
            with pytest.raises(TransientBackendError) as caught:
                run(call)
            assert (caught.value.fields["retry_after_s"], proxy.count()) == (77.0, 1)


# -- silence and slowness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_silence_ends_a_write(place: VospaceOutside, proxy: FaultProxy, method: str) -> None:
    with through(proxy, place, max_attempts=1) as backend:
        proxy.inject(Fault(method=method, silent=True))
        failed = tried(partial(run, partial(write, backend, "k", CONTENT)))
        assert isinstance(failed, TransientBackendError)
    assert place.get("k") is None
    assert place.residue() == set()


def test_a_document_that_trickles_is_given_up(place: VospaceOutside, proxy: FaultProxy) -> None:
    """It is never silent, and would end some day."""
    place.put("k", CONTENT)
    with through(proxy, place, job_timeout_s=0.5, read_timeout_s=5.0, max_attempts=1) as backend:
        proxy.inject(Fault(trickle_bytes_per_s=40, times=-1))
        with pytest.raises(TransientBackendError, match="did not come within"):
            run(partial(backend.stat, "k"))


def test_an_error_that_trickles_is_given_up(vospace: VospaceServer, place: VospaceOutside, proxy: FaultProxy) -> None:
    place.put("k", CONTENT)
    vospace.set_dialect(unavailable={"rate": 1.0, "endpoints": ["files"], "retry_after_s": None})
    with through(proxy, place, read_timeout_s=0.2, max_attempts=1) as backend:
        version = run(partial(backend.stat, "k")).version
        proxy.inject(Fault(trickle_bytes_per_s=20))
        with pytest.raises(TransientBackendError, match="did not come within"):
            run(partial(read, backend, "k", 0, 10, version))


def test_a_document_that_trickles_can_be_cancelled(place: VospaceOutside, proxy: FaultProxy) -> None:
    place.put("k", CONTENT)
    slow = Fault(trickle_bytes_per_s=40, times=-1)

    async def check(backend: VOSpaceBackend) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def _cancel() -> None:
                    await trio.to_thread.run_sync(proxy.wait_for_request, lambda request: request.fault == slow)
                    scope.cancel()

                await backend.stat("k")
        assert scope.cancelled_caught

    with through(proxy, place, read_timeout_s=60.0) as backend:
        proxy.inject(slow)
        run(partial(check, backend))


def test_data_that_trickle_are_asked_for_anew(place: VospaceOutside, proxy: FaultProxy) -> None:
    place.put("k", CONTENT)
    with through(proxy, place) as backend:
        version = run(partial(backend.stat, "k")).version
        proxy.clear()
        proxy.inject(Fault(trickle_bytes_per_s=1000))
        assert run(partial(read, backend, "k", 0, len(CONTENT), version)) == CONTENT
        first, second = proxy.requests
        assert first.headers["range"] != second.headers["range"]
        proxy.inject(Fault(trickle_bytes_per_s=1000, times=-1))
        with pytest.raises(TransientBackendError, match="too slowly"):
            run(partial(read, backend, "k", 0, len(CONTENT), version))


# -- another version ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_the_rest_of_a_cut_read_is_of_the_same_object(
    vospace: VospaceServer, place: VospaceOutside, proxy: FaultProxy, dialect: dict[str, object]
) -> None:
    """Even if the caller asked for no version: never the beginning of one and the end of another."""
    place.put("k", CONTENT)
    vospace.set_dialect(**dialect)
    with through(proxy, place) as backend:
        run(partial(read, backend, "k", 0, 10))  # whatever is asked once
        changed = threading.Event()

        def cut_and_change(request: Request) -> Fault | None:
            if "range" not in request.headers or changed.is_set():
                return None
            changed.set()
            return Fault(cut_after=15_000)

        def change(position: int) -> None:
            if changed.is_set() and place.get("k") == CONTENT:
                place.put("k", CONTENT[::-1])

        proxy.choose = cut_and_change
        with descriptor() as fd, pytest.raises(ObjectChangedError):
            run(partial(backend.read_into, "k", ByteRange(0, len(CONTENT)), fd, on_progress=change))
        assert changed.is_set()


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_another_version_than_was_asked_for(
    vospace: VospaceServer, place: VospaceOutside, proxy: FaultProxy, dialect: dict[str, object]
) -> None:
    place.put("k", CONTENT)
    vospace.set_dialect(**dialect)
    with through(proxy, place) as backend:
        version = run(partial(backend.stat, "k")).version
        assert run(partial(read, backend, "k", 5, 10, version)) == CONTENT[5:10]
        place.put("k", CONTENT[::-1])
        with pytest.raises(ObjectChangedError):
            run(partial(read, backend, "k", 0, len(CONTENT), version))


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_an_object_that_is_replaced_between_two_requests_of_a_read(
    vospace: VospaceServer, place: VospaceOutside, proxy: FaultProxy, dialect: dict[str, object]
) -> None:
    place.put("k", CONTENT)
    vospace.set_dialect(**dialect)
    with through(proxy, place) as backend:
        version = run(partial(backend.stat, "k")).version

        def replace(request: Request) -> None:
            if "range" in request.headers:
                place.put("k", CONTENT[::-1])

        proxy.choose = replace
        with pytest.raises(ObjectChangedError):
            run(partial(read, backend, "k", 0, len(CONTENT), version))


# -- what goes on by http ----------------------------------------------------------------------------------


def test_what_is_asked_by_https_does_not_go_on_by_http(
    vospace: VospaceServer, place: VospaceOutside, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("k", CONTENT)
    vospace.set_dialect(files=False)
    negotiate = Service.negotiate

    def by_http_first(*asked: object, **more: object) -> list[Endpoint]:
        found = negotiate(*asked, **more)  # type: ignore[arg-type]
        return [Endpoint(f"{vospace.endpoint}/data/stolen/x", CORE + "httpsget", ""), *found]

    tls: dict[str, object] = {"endpoint_url": vospace.secure_endpoint, "authority_file": str(vospace.authority_file)}
    with opened(vospace, place.path, **tls) as backend:
        monkeypatch.setattr(Service, "negotiate", by_http_first)
        vospace.forget_requests()
        assert run(partial(read, backend, "k", 0, len(CONTENT))) == CONTENT
        run(partial(write, backend, "new", CONTENT))
        assert {one.listener for one in vospace.requests()} == {"service+tls"}
        monkeypatch.setattr(Service, "negotiate", lambda *asked, **more: by_http_first(*asked, **more)[:1])
        with pytest.raises(BackendError, match="asked by https"):
            run(partial(read, backend, "new", 0, len(CONTENT)))


@pytest.mark.parametrize("location", ["http://a.org/x", "ftp://a.org/x", "", "https://[/x", "//:x"])
def test_redirects_that_are_refused(location: str) -> None:
    web = Web(VOSpaceOptions(endpoint_url="http://a.org/space"), None)
    with pytest.raises(UntrustedServerError):
        web.redirected("https://b.org/y", {"location": location}, "k")
    assert web.redirected("http://b.org/y", {"location": "/z"}, "k") == "http://b.org/z"
