"""The backends for tests are held to the contract as well."""

from __future__ import annotations

import pytest
import trio

from pantry.backends.admission import Admission
from pantry.backends.flaky import After, FlakyBackend, Hold
from pantry.backends.memory import MemoryBackend
from pantry.backends.suite import ObjectBackendContract
from pantry.backends.suite_calls import listed, read, run, write
from pantry.daemon.credentials.renewed import Renewed, RenewedBackend
from pantry.daemon.transfers.metered import MeteredBackend
from pantry.daemon.transfers.traffic import Traffic
from pantry.errors import ObjectExistsError, TransientBackendError


class MemoryOutside:
    def __init__(self, memory: MemoryBackend) -> None:
        self._memory = memory

    def put(self, key: str, content: bytes) -> None:
        self._memory.put(key, content)

    def get(self, key: str) -> bytes | None:
        found = self._memory.objects.get(key)
        return None if found is None else found.content

    def keys(self) -> set[str]:
        return set(self._memory.objects)

    def residue(self) -> set[str]:
        return set()


class TestMemory(ObjectBackendContract):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()

    @pytest.fixture
    def outside(self, backend: MemoryBackend) -> MemoryOutside:
        return MemoryOutside(backend)


class TestFlakyThatDoesNotFail(ObjectBackendContract):
    @pytest.fixture
    def backend(self) -> FlakyBackend:
        return FlakyBackend(MemoryBackend())

    @pytest.fixture
    def outside(self, backend: FlakyBackend) -> MemoryOutside:
        assert isinstance(backend.inner, MemoryBackend)
        return MemoryOutside(backend.inner)


class _Always:
    """Options that stay as they are."""

    def stand_in(self) -> dict[str, object]:
        return {}

    async def now(self) -> dict[str, object]:
        await trio.lowlevel.checkpoint()
        return {}


class TestBeforeAnother(ObjectBackendContract):
    """What is counted, limited and made anew is a backend as any other."""

    @pytest.fixture
    def memory(self) -> MemoryBackend:
        return MemoryBackend()

    @pytest.fixture
    def backend(self, memory: MemoryBackend) -> MeteredBackend:
        renewed = RenewedBackend(Renewed(_Always(), lambda _: memory))
        return MeteredBackend(renewed, Traffic(), Admission(user_limit=2, node_limit=2))

    @pytest.fixture
    def outside(self, memory: MemoryBackend) -> MemoryOutside:
        return MemoryOutside(memory)


def test_faults_strike_in_order() -> None:
    flaky = FlakyBackend(MemoryBackend({"k": b"1"}), faults=[TransientBackendError("x"), None])
    with pytest.raises(TransientBackendError):
        run(lambda: read(flaky, "k", 0, 1))
    assert run(lambda: read(flaky, "k", 0, 1)) == b"1"
    assert run(lambda: listed(flaky, "")).keys() == {"k"}
    assert [call.method for call in flaky.calls] == ["read_into", "read_into", "list_keys"]


def test_a_fault_after_the_work() -> None:
    flaky = FlakyBackend(MemoryBackend(), [After(TransientBackendError("lost the answer"))], only="write_from")
    with pytest.raises(TransientBackendError):
        run(lambda: write(flaky, "k", b"1"))
    with pytest.raises(ObjectExistsError):
        run(lambda: write(flaky, "k", b"1"))


def test_a_held_call_waits() -> None:
    async def check() -> None:
        hold = Hold(trio.Event(), trio.Event())
        flaky = FlakyBackend(MemoryBackend({"k": b"1"}), [hold])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flaky.stat, "k")
            await hold.reached.wait()
            hold.release.set()

    run(check)
