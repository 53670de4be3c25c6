"""A base EFD behind the fault proxy: each request of a query struck in turn; never a part for the whole."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from tests.contract.test_efd import _AZIMUTH, answer, query
from tests.fault.proxy import Fault, FaultProxy
from tests.servers.efd import EfdPair, Service

from pantry.errors import BackendAccessError, BackendError, InvalidQueryError, TransientBackendError

ASKED = query(_AZIMUTH, -3, 3)
FAULTS = {
    "cut before the answer": Fault(cut_after=-1),
    "cut in the answer": Fault(cut_after=20),
    "reset in the answer": Fault(cut_after=20, reset=True),
    "503": Fault(status=503),
    "500": Fault(status=500),
    "429": Fault(status=429),
    "too slow": Fault(stall_after=20),
    "no answer": Fault(silent=True),
}


@pytest.fixture
def proxied(efd: EfdPair) -> Iterator[tuple[Service, FaultProxy]]:
    with FaultProxy(("127.0.0.1", efd.influx.port)) as proxy:
        root = efd.base.root.replace(str(efd.influx.port), proxy.endpoint_url.rpartition(":")[2])
        yield Service(root, {**efd.base.options, "read_timeout_s": 1.0}), proxy


def requests_of(service: Service, proxy: FaultProxy) -> tuple[pa.Table, int]:
    whole = answer(service, ASKED)
    asked = proxy.count()
    proxy.clear()
    return whole, asked


@pytest.mark.parametrize("kind", FAULTS)
def test_what_passes_is_asked_again(proxied: tuple[Service, FaultProxy], kind: str) -> None:
    """Whichever request it strikes, the answer is the whole one."""
    service, proxy = proxied
    whole, count = requests_of(service, proxy)
    assert count >= 2
    for number in range(count):
        fault = FAULTS[kind]
        proxy.inject(Fault(**{**vars(fault), "skip": number}))
        assert answer(service, ASKED, max_attempts=3).equals(whole), number
        assert proxy.count() > count, "the fault struck nothing"
        proxy.clear()


@pytest.mark.parametrize("kind", FAULTS)
def test_what_does_not_pass_is_an_error_that_may(proxied: tuple[Service, FaultProxy], kind: str) -> None:
    service, proxy = proxied
    _, count = requests_of(service, proxy)
    for number in range(count):
        fault = FAULTS[kind]
        proxy.inject(Fault(**{**vars(fault), "skip": number, "times": -1}))
        with pytest.raises(TransientBackendError) as failed:
            answer(service, ASKED, max_attempts=2)
        assert str(service.options["password"]) not in str(failed.value)
        proxy.clear()


@pytest.mark.parametrize(
    ("status", "error"), [(403, BackendAccessError), (400, InvalidQueryError), (404, BackendError), (302, BackendError)]
)
def test_what_is_refused_is_not_asked_again(
    proxied: tuple[Service, FaultProxy], status: int, error: type[BackendError]
) -> None:
    service, proxy = proxied
    _, count = requests_of(service, proxy)
    for number in range(count):
        proxy.inject(Fault(status=status, skip=number, times=-1))
        with pytest.raises(error) as failed:
            answer(service, ASKED, max_attempts=3)
        assert not isinstance(failed.value, TransientBackendError)
        assert proxy.count() == number + 1
        proxy.clear()


@pytest.mark.parametrize("size", [0, 1, 20, 30])
def test_a_shorter_answer_with_a_length_that_fits_is_never_the_whole(
    proxied: tuple[Service, FaultProxy], size: int
) -> None:
    service, proxy = proxied
    _, count = requests_of(service, proxy)
    for number in range(count):
        proxy.inject(Fault(truncate_to=size, skip=number, times=-1))
        with pytest.raises(BackendError):
            answer(service, ASKED, max_attempts=2)
        proxy.clear()
