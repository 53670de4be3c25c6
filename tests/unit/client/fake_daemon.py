"""A daemon of threads on the real wire, which says whatever a test wants; knows nothing of the client's code."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from pantry.errors import PantryError
from pantry.wire.envelope import (
    STREAM_WINDOW,
    Cancel,
    Credit,
    End,
    Failure,
    Hello,
    Item,
    Reply,
    Request,
    Welcome,
    decode_from_client,
    encode,
)
from pantry.wire.framing import FrameParser, encode_frame
from pantry.wire.operations import Operation, StreamOperation, decode_operation


class Peer:
    """One connection, as the daemon sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.cancelled: dict[int, threading.Event] = {}
        self.credit: dict[int, threading.Semaphore] = {}
        self._lock = threading.Lock()

    def send(self, message: Any, fds: tuple[int, ...] = ()) -> None:
        """Send one message; closes the descriptors."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        frame = encode_frame(encode(message), len(fds))
        with self._lock, contextlib.suppress(OSError):
            sent = self.sock.sendmsg([frame], rights)
            self.sock.sendall(frame[sent:])
        for fd in fds:
            os.close(fd)

    def reply(self, number: int, result: Any, fds: tuple[int, ...] = ()) -> None:
        """Answer a request."""
        self.send(Reply(number, msgspec.Raw(encode(result))), fds)


class Asked:
    """A request under way."""

    def __init__(self, peer: Peer, number: int, fds: tuple[int, ...]) -> None:
        self.peer = peer
        self.number = number
        self.fds = fds

    @property
    def cancelled(self) -> threading.Event:
        """Set when the client cancels it."""
        return self.peer.cancelled[self.number]


Answer = Callable[[Operation[Any], Asked], Any]


class WithFds(msgspec.Struct):
    """A result and descriptors to send with it."""

    result: Any
    fds: tuple[int, ...]


class FakeDaemon:
    """Listens on a socket and answers every operation with what ``answer`` returns.

    ``answer`` runs in a thread per request. For a stream it returns an iterable of batches. What it
    raises is sent as a failure. None sends nothing: the test answers by itself.
    """

    def __init__(self, path: str, answer: Answer, *, uid: int | None = None, greeting: Any = None) -> None:
        self.path = path
        self.answer = answer
        self.uid = os.getuid() if uid is None else uid
        self.greeting = greeting
        self.peers: list[Peer] = []
        self.asked: list[Operation[Any]] = []
        self.cancels: list[int] = []
        self.most_uncredited = 0
        self.errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._start(self._accept)

    def close(self) -> None:
        """Stop, cutting all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.hang_up()
        for thread in list(self._threads):
            thread.join(10)
            assert not thread.is_alive(), "a thread of the fake daemon hangs"

    def hang_up(self) -> None:
        """Cut all connections."""
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
            for event in list(peer.cancelled.values()):
                event.set()
            for credit in list(peer.credit.values()):
                credit.release(1000)

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            peer = Peer(sock)
            self.peers.append(peer)
            self._start(self._serve, peer)

    def _serve(self, peer: Peer) -> None:
        parser = FrameParser()
        with peer.sock:
            while True:
                try:
                    data, ancillary, _, _ = peer.sock.recvmsg(65536, 4096, socket.MSG_CMSG_CLOEXEC)
                except OSError:
                    break
                if not data:
                    break
                fds = array.array("i")
                for _, _, content in ancillary:
                    fds.frombytes(content)
                for frame in parser.feed(data, fds):
                    self._take(peer, frame.payload, frame.fds)
        parser.close()
        for event in peer.cancelled.values():
            event.set()

    def _take(self, peer: Peer, payload: bytes, fds: tuple[int, ...]) -> None:
        message = decode_from_client(payload)
        if isinstance(message, Hello):
            peer.send(self.greeting or Welcome(1, "fake", self.uid))
        elif isinstance(message, Request):
            peer.cancelled[message.number] = threading.Event()
            peer.credit[message.number] = threading.Semaphore(STREAM_WINDOW)
            self._start(self._work, peer, message, fds)
        elif isinstance(message, Cancel):
            self.cancels.append(message.number)
            peer.cancelled[message.number].set()
            peer.credit[message.number].release(1000)
        elif isinstance(message, Credit):
            peer.credit[message.number].release(message.items)

    def _work(self, peer: Peer, request: Request, fds: tuple[int, ...]) -> None:
        number = request.number
        try:
            operation = decode_operation(request.operation)
            self.asked.append(operation)
            result = self.answer(operation, Asked(peer, number, fds))
            if isinstance(operation, StreamOperation):
                self._stream(peer, number, result)
            elif isinstance(result, WithFds):
                peer.reply(number, result.result, result.fds)
            elif result is not None:
                peer.reply(number, result)
        except PantryError as exc:
            peer.send(Failure(number, exc.code, exc.message, exc.hint, exc.fields))
        except BaseException as exc:
            self.errors.append(exc)
            peer.send(Failure(number, "internal", repr(exc)))
        finally:
            for fd in fds:
                os.close(fd)

    def _stream(self, peer: Peer, number: int, batches: Iterator[Any]) -> None:
        for batch in batches:
            peer.credit[number].acquire()
            if peer.cancelled[number].is_set():
                peer.send(Failure(number, "error", "cancelled"))
                return
            peer.send(Item(number, msgspec.Raw(encode(batch))))
        peer.send(End(number))
