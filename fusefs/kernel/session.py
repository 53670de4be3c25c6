"""Serving one mount: requests become calls of the file system, and what those give becomes answers.

What can be answered at once is answered in the loop; the rest gets a task each, with a deadline. A task whose
process is being ended is cancelled, and the request fails with EINTR.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, TypeVar

import trio

from pantry.fusefs.kernel.agreement import Agreement, agree
from pantry.fusefs.kernel.device import Buffer, Device, UnmountedError
from pantry.fusefs.kernel.ending import Ending, ending_of
from pantry.fusefs.kernel.filesystem import Caller, FileSystem, FuseError, Listing, Opened, Soon
from pantry.fusefs.kernel.messages import (
    ACCESS_IN,
    BATCH_FORGET_IN,
    CHANGING,
    FORGET_IN,
    FORGET_ONE,
    GETXATTR_IN,
    GETXATTR_OUT,
    INTERRUPT_IN,
    OPEN_IN,
    READ_IN,
    RELEASE_IN,
    RESENT,
    Opcode,
    Request,
    pack_attributes,
)

T = TypeVar("T")
MOST_TASKS = 4096
"""Requests that may wait at once; each holds a task and a few KiB. What goes beyond fails with EBUSY."""
_AT_ONCE = 64
"""Requests that are read before other tasks have their turn."""
_PATIENT_S = 0.5
"""A process that handles SIGTERM or SIGINT itself is not told EINTR by what takes no longer: few programs expect it."""
_LOOK_AGAIN_S = 0.1
"""How often processes are looked at that got a signal which need not end them."""
_LOOK_AT_READERS_S = 0.25
"""How often those who wait for pages are looked at, of whose signals the kernel does not tell."""


class Waiting:
    """A request that has a task."""

    __slots__ = ("interrupted", "of_page", "pid", "scope", "since")

    def __init__(self, pid: int, deadline_s: float, *, of_page: bool) -> None:
        self.pid = pid
        self.of_page = of_page
        self.since = trio.current_time()
        self.scope = trio.CancelScope(deadline=self.since + deadline_s)
        self.interrupted = False


class Session:
    """Serves one mount until it is unmounted or `stop` is called.

    Parameters
    ----------
    device : Device
        The kernel's end.
    file_system : FileSystem
        What is mounted.
    deadline_s : float
        A request that takes longer fails with ETIMEDOUT.
    agreement : Agreement, optional
        What a process before this one agreed on with the kernel.
    agreed : callable, optional
        Told what was agreed on, before the kernel is.
    """

    def __init__(
        self,
        device: Device,
        file_system: FileSystem,
        *,
        deadline_s: float = 300.0,
        agreement: Agreement | None = None,
        agreed: Callable[[Agreement], None] = lambda _: None,
    ) -> None:
        self.device = device
        self.agreement = agreement
        self._agreed = agreed
        self._file_system = file_system
        self._deadline_s = deadline_s
        self._nursery: trio.Nursery | None = None
        self._reading: trio.CancelScope | None = None
        self._waiting: dict[int, Waiting] = {}
        self._signalled: dict[int, Waiting] = {}
        self._handlers: dict[int, Callable[[Request], None]] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._batch_forget,
            Opcode.GETATTR: self._getattr,
            Opcode.ACCESS: self._access,
            Opcode.STATFS: self._statfs,
            Opcode.OPENDIR: self._opendir,
            Opcode.READDIR: self._readdir,
            Opcode.READDIRPLUS: self._readdir,
            Opcode.RELEASEDIR: self._releasedir,
            Opcode.OPEN: self._open,
            Opcode.READ: self._read,
            Opcode.RELEASE: self._release,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.GETXATTR: self._getxattr,
            Opcode.INTERRUPT: self._interrupt,
            Opcode.INIT: self._init,
            Opcode.DESTROY: lambda request: self._answer(request.unique, b""),
        }

    async def serve(self) -> None:
        """Answer requests until there are no more; those under way are given up at the end."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._watch_signalled)
            nursery.start_soon(self._watch_readers)
            self._reading = trio.CancelScope()
            try:
                with self._reading:
                    await self._read_requests()
            except UnmountedError:
                nursery.cancel_scope.cancel()
            if self._waiting:
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """Read no more requests; `serve` returns when those under way are done or it is cancelled."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read_requests(self) -> None:
        while True:
            await self.device.wait()
            for _ in range(_AT_ONCE):
                request = self.device.next_request()
                if request is None:
                    break
                self._dispatch(request)

    def _dispatch(self, request: Request) -> None:
        handler = self._handlers.get(request.opcode)
        if handler is None:
            code = errno.EROFS if request.opcode in CHANGING else errno.ENOSYS
            self.device.refuse(request.unique, code)
            return
        try:
            handler(request)
        except Exception as exc:
            self.device.refuse(request.unique, self._code(exc, request.opcode))

    def _code(self, error: Exception, opcode: int) -> int:
        if isinstance(error, FuseError):
            return error.code
        if isinstance(error, struct.error):
            return errno.EINVAL  # shorter than what it should hold
        return self._file_system.errno_of(error, Opcode(opcode).name.lower())

    # -- requests that wait --------------------------------------------------------------------------

    def _reply(
        self,
        request: Request,
        given: Soon[T],
        pack: Callable[[Any], Buffer],
        undo: Callable[[T], Soon[None]] | None = None,
    ) -> None:
        """Answer with what a call gave, now or when it has it; ``undo`` it if nobody waits for it any more."""
        if isinstance(given, CoroutineType):
            self._start(request, given, pack, undo)
            return
        accepted = self.device.answer(request.unique, pack(given))
        if not accepted and undo is not None:
            undone = undo(given)  # type: ignore[arg-type]
            if isinstance(undone, CoroutineType) and self._nursery is not None:
                self._nursery.start_soon(_finish, undone)

    def _start(
        self,
        request: Request,
        coroutine: CoroutineType[Any, Any, T],
        pack: Callable[[Any], Buffer],
        undo: Callable[[T], Soon[None]] | None,
    ) -> None:
        if self._nursery is None or len(self._waiting) >= MOST_TASKS:
            coroutine.close()
            self.device.refuse(request.unique, errno.EBUSY)
            return
        waiting = Waiting(request.pid, self._deadline_s, of_page=request.opcode == Opcode.READ)
        # Interruptions name a request by the number that it had at first.
        self._waiting[request.unique & ~RESENT] = waiting
        self._nursery.start_soon(self._run, request.unique, request.opcode, waiting, coroutine, pack, undo)

    async def _run(
        self,
        unique: int,
        opcode: int,
        waiting: Waiting,
        coroutine: Coroutine[Any, Any, T],
        pack: Callable[[Any], Buffer],
        undo: Callable[[T], Soon[None]] | None,
    ) -> None:
        code = errno.ETIMEDOUT
        try:
            with waiting.scope:
                given = await coroutine
                # No await from here on: what the call opened is either told to the kernel or undone.
                if self.device.answer(unique, pack(given)):
                    return
                if undo is not None and isinstance(undone := undo(given), CoroutineType):
                    await undone
                return
            if waiting.interrupted:
                code = errno.EINTR
        except Exception as exc:
            code = self._code(exc, opcode)
        finally:
            self._waiting.pop(unique & ~RESENT, None)
            self._signalled.pop(unique & ~RESENT, None)
            if self._reading is not None and self._reading.cancel_called and not self._waiting and self._nursery:
                self._nursery.cancel_scope.cancel()
        self.device.refuse(unique, code)

    def _interrupt(self, request: Request) -> None:
        (unique,) = INTERRUPT_IN.unpack_from(request.body)
        unique &= ~RESENT
        waiting = self._waiting.get(unique)
        if waiting is None:
            return  # it was answered meanwhile
        self._signalled[unique] = waiting
        self._look_at(waiting)

    def _look_at(self, waiting: Waiting) -> None:
        ending = ending_of(waiting.pid)
        waited_s = trio.current_time() - waiting.since
        if ending is Ending.KILLED or (ending is Ending.ASKED and waited_s >= _PATIENT_S):
            waiting.interrupted = True
            waiting.scope.cancel()

    async def _watch_signalled(self) -> None:
        while True:
            await trio.sleep(_LOOK_AGAIN_S)
            for waiting in list(self._signalled.values()):
                self._look_at(waiting)

    async def _watch_readers(self) -> None:
        """Let go of readers that were asked to end and wait for a page.

        The kernel reads pages in the background and tells nothing of signals to who waits for them. When such a read
        fails, it asks once more for the page, in the reader's name, and of that request it does tell. Who is killed
        has left already.
        """
        while True:
            await trio.sleep(_LOOK_AT_READERS_S)
            overdue = trio.current_time() - _PATIENT_S
            endings: dict[int, Ending] = {}
            for waiting in list(self._waiting.values()):
                if not waiting.of_page or not waiting.pid or waiting.since > overdue:
                    continue
                if waiting.pid not in endings:
                    endings[waiting.pid] = ending_of(waiting.pid)
                if endings[waiting.pid] is Ending.ASKED:
                    waiting.interrupted = True
                    waiting.scope.cancel()

    # -- the requests ----------------------------------------------------------------------------------

    def _answer(self, unique: int, *parts: Buffer) -> None:
        self.device.answer(unique, *parts)

    def _init(self, request: Request) -> None:
        agreement, reply = agree(request.body)
        if agreement is not None:
            self.agreement = agreement
            self._agreed(agreement)
        self.device.answer(request.unique, reply)

    def _lookup(self, request: Request) -> None:
        name = _name(request.body)
        given = self._file_system.lookup(request.node, name, _caller(request))
        self._reply(request, given, _pack, self._forget_entry)

    def _forget_entry(self, entry: Any) -> None:
        attributes = getattr(entry, "attributes", None)
        if attributes is not None:
            self._file_system.forget(attributes.number, 1)

    def _forget(self, request: Request) -> None:
        (references,) = FORGET_IN.unpack_from(request.body)
        self._file_system.forget(request.node, references)

    def _batch_forget(self, request: Request) -> None:
        count, _ = BATCH_FORGET_IN.unpack_from(request.body)
        body = request.body[BATCH_FORGET_IN.size :][: count * FORGET_ONE.size]
        for node, references in FORGET_ONE.iter_unpack(body):
            self._file_system.forget(node, references)

    def _getattr(self, request: Request) -> None:
        attributes, valid_s = self._file_system.getattr(request.node, _caller(request))
        self._answer(request.unique, pack_attributes(attributes, valid_s))

    def _access(self, request: Request) -> None:
        mode, _ = ACCESS_IN.unpack_from(request.body)
        self._reply(request, self._file_system.access(request.node, mode, _caller(request)), _nothing)

    def _statfs(self, request: Request) -> None:
        self._reply(request, self._file_system.statfs(_caller(request)), _pack)

    def _opendir(self, request: Request) -> None:
        given = self._file_system.opendir(request.node, _caller(request))
        self._reply(request, given, _pack, lambda opened: self._file_system.releasedir(opened.handle))

    def _readdir(self, request: Request) -> None:
        handle, position, size, *_ = READ_IN.unpack_from(request.body)
        listing = Listing(size, with_attributes=request.opcode == Opcode.READDIRPLUS)
        self._reply(request, self._file_system.readdir(handle, position, listing), _pack)

    def _releasedir(self, request: Request) -> None:
        handle, *_ = RELEASE_IN.unpack_from(request.body)
        self._reply(request, self._file_system.releasedir(handle), _nothing)

    def _open(self, request: Request) -> None:
        flags, _ = OPEN_IN.unpack_from(request.body)
        given = self._file_system.open(request.node, flags, _caller(request))
        self._reply(request, given, _pack, self._close_opened)

    def _close_opened(self, opened: Opened) -> Soon[None]:
        return self._file_system.release(opened.handle)

    def _read(self, request: Request) -> None:
        handle, offset, size, *_ = READ_IN.unpack_from(request.body)
        self._reply(request, self._file_system.read(handle, offset, size), lambda data: data)

    def _release(self, request: Request) -> None:
        handle, *_ = RELEASE_IN.unpack_from(request.body)
        self._reply(request, self._file_system.release(handle), _nothing)

    def _listxattr(self, request: Request) -> None:
        size, _ = GETXATTR_IN.unpack_from(request.body)
        names = self._file_system.listxattr(request.node, _caller(request))
        self._answer(request.unique, _sized(b"".join(name + b"\0" for name in names), size))

    def _getxattr(self, request: Request) -> None:
        size, _ = GETXATTR_IN.unpack_from(request.body)
        name = _name(request.body[GETXATTR_IN.size :])
        given = self._file_system.getxattr(request.node, name, _caller(request))
        self._reply(request, given, lambda value: _sized(value, size))


async def _finish(coroutine: Coroutine[Any, Any, None]) -> None:
    await coroutine


def _caller(request: Request) -> Caller:
    unique = request.unique
    return Caller(request.uid, request.gid, request.pid, unique & ~RESENT, bool(unique & RESENT))


def _name(body: memoryview) -> bytes:
    name, nul, _ = bytes(body).partition(b"\0")
    if not nul:
        raise FuseError(errno.EINVAL)
    return name


def _sized(value: bytes, size: int) -> bytes:
    """Answer for an extended attribute: its length if the caller has no buffer yet."""
    if not size:
        return GETXATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise FuseError(errno.ERANGE)
    return value


def _pack(given: Any) -> bytes:
    packed: bytes = given.pack()
    return packed


def _nothing(_: None) -> bytes:
    return b""
