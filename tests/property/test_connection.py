"""Any bytes on the socket give answers or a clean close, and nothing stays behind (DESIGN section 5)."""

from __future__ import annotations

import itertools
import os
import socket

import msgspec
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.daemon.server.connection import Connection
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.daemon.server.identity import Identity
from pantry.daemon.server.limits import UserLimits
from pantry.wire.descriptors import close_all
from pantry.wire.envelope import Cancel, Credit, Failure, Hello, Reply, Request, Welcome, decode_from_daemon, encode
from pantry.wire.framing import FrameParser, encode_frame
from pantry.wire.operations import CacheListing, CacheStatus, GetCacheStatus, ListCache
from pantry.wire.trio_transport import receive

STATUS = CacheStatus(**dict.fromkeys(CacheStatus.__struct_fields__, 0))
ME = Identity(os.getuid(), os.getgid(), frozenset())


def dispatcher() -> Dispatcher:
    made = Dispatcher()

    async def status(context: RequestContext, asked: GetCacheStatus) -> CacheStatus:
        fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        context.attach(fd)
        return STATUS

    async def listing(context: RequestContext, asked: ListCache) -> None:
        for _ in range(20):
            await context.emit(CacheListing([]))

    made.register(GetCacheStatus, status)
    made.register(ListCache, listing)
    return made


def frame(message: object) -> bytes:
    return encode_frame(encode(message))


def request(number: int, operation: object) -> bytes:
    return frame(Request(number, msgspec.Raw(encode(operation))))


MESSAGES = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=40).map(encode_frame),
    st.builds(lambda number: request(number, GetCacheStatus()), st.integers(-1, 5)),
    st.builds(lambda number: request(number, ListCache()), st.integers(1, 5)),
    st.builds(lambda number: frame(Request(number, msgspec.Raw(encode({"op": "none"})))), st.integers(1, 5)),
    st.builds(lambda number: frame(Cancel(number)), st.integers(-1, 5)),
    st.builds(lambda number, items: frame(Credit(number, items)), st.integers(0, 5), st.integers(-1, 9)),
    st.just(frame(Hello((1,)))),
)


async def talk(sent: bytes, cuts: list[int]) -> tuple[list[object], UserLimits]:
    """Send bytes in pieces, then end; return all that was answered before the daemon closed."""
    ours, theirs = trio.socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    limits = UserLimits(connections=10, requests=10, saw=lambda uid: None)
    connection = Connection(
        theirs, ME, may_ask_for_others=False, own_uid=ME.uid, dispatcher=dispatcher(), limits=limits
    )
    answers: list[object] = []
    parser = FrameParser()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.serve)

            async def send() -> None:
                places = sorted({cut % (len(sent) + 1) for cut in cuts} | {0, len(sent)})
                try:
                    for begin, end in itertools.pairwise(places):
                        await ours.send(sent[begin:end])
                    ours.shutdown(socket.SHUT_WR)
                except OSError:
                    return  # the daemon closed first, as it may

            nursery.start_soon(send)
            while True:
                try:
                    data, fds = await receive(ours)
                except OSError:
                    break
                if not data:
                    break
                for one in parser.feed(data, fds):
                    close_all(one.fds)
                    answers.append(decode_from_daemon(one.payload))
    parser.close()
    ours.close()
    return answers, limits


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


@settings(max_examples=150)
@given(st.lists(MESSAGES, max_size=8), st.booleans(), st.lists(st.integers(0, 500), max_size=5))
def test_any_bytes_give_answers_or_a_clean_close(messages: list[bytes], greets: bool, cuts: list[int]) -> None:
    before = open_fds()
    sent = (frame(Hello((1,))) if greets else b"") + b"".join(messages)
    answers, limits = trio.run(talk, sent, cuts)
    assert not limits.open_requests
    assert open_fds() == before, "a descriptor leaked"
    if greets and answers:  # junk right behind the hello may end the connection before the welcome
        assert isinstance(answers[0], Welcome)


@given(st.lists(st.integers(0, 300), max_size=6))
def test_a_conversation_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    sent = frame(Hello((1, 7))) + request(1, GetCacheStatus()) + frame(Request(2, msgspec.Raw(encode({"op": "x"}))))

    async def converse() -> list[object]:
        answers, _ = await talk(sent, cuts)
        return answers

    answers = trio.run(converse)
    assert answers[0] == Welcome(1, answers[0].daemon, ME.uid)  # type: ignore[attr-defined]
    # The peer ended its side at once, so what was not answered by then is cancelled: never garbled.
    for answer in answers[1:]:
        assert isinstance(answer, Reply | Failure)
        if isinstance(answer, Failure):
            assert answer.code == "invalid_request"


def test_an_unknown_protocol_version_is_refused_with_what_is_known() -> None:
    (answer,), _ = trio.run(talk, frame(Hello((99,))), [])
    assert isinstance(answer, Failure)
    assert answer.code == "protocol"
    assert "(1,)" in answer.message
    assert "update" in answer.hint
