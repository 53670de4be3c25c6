"""The wire under arbitrary bytes: a value, or one clean error; and no descriptor ever leaks."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping
from enum import Enum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.errors import InvalidRequestError, ProtocolError
from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetType
from pantry.model.metadata import MetadataEntry
from pantry.model.queries import Circle, Point, Polygon
from pantry.model.timespan import Timespan
from pantry.wire import operations as ops
from pantry.wire.envelope import decode_from_client, decode_from_daemon, encode
from pantry.wire.framing import HEADER, MAX_FRAME_BYTES, FrameParser, encode_frame
from pantry.wire.operations.base import concrete_operations


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def new_fd(number: int) -> int:
    """A descriptor that tells its number: an empty temporary file of that length."""
    fd = os.memfd_create("fd")
    os.ftruncate(fd, number)
    return fd


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


frames = st.lists(st.tuples(st.binary(max_size=200), st.integers(0, 4)), max_size=8)
cuts = st.lists(st.integers(0, 10_000), max_size=20)


@settings(deadline=None)
@given(frames, cuts)
def test_frames_survive_any_cuts_with_their_descriptors(messages: list[tuple[bytes, int]], places: list[int]) -> None:
    before = open_descriptors()
    stream = b""
    starts: dict[int, list[int]] = {}
    number = 0
    for payload, n_fds in messages:
        starts[len(stream)] = list(range(number, number + n_fds))
        number += n_fds
        stream += encode_frame(payload, n_fds)
    # The kernel gives descriptors with the frame's first byte and never merges two sends' ancillary data.
    parser = FrameParser()
    found = []
    position = 0
    for piece in cut(stream, [*places, *starts]):
        fds = [new_fd(size) for size in starts.pop(position, [])] if piece else []
        found += parser.feed(piece, fds)
        position += len(piece)
    assert [frame.payload for frame in found] == [payload for payload, _ in messages]
    assert [len(frame.fds) for frame in found] == [n_fds for _, n_fds in messages]
    assert [os.fstat(fd).st_size for frame in found for fd in frame.fds] == list(range(number))
    assert parser.at_boundary
    for frame in found:
        for fd in frame.fds:
            os.close(fd)
    parser.close()
    assert open_descriptors() == before


@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=64), st.integers(0, 3)), max_size=20))
def test_arbitrary_bytes_give_frames_or_one_error_and_leak_nothing(pieces: list[tuple[bytes, int]]) -> None:
    before = open_descriptors()
    parser = FrameParser(max_frame_bytes=1000, max_frame_fds=100)
    try:
        for piece, n_fds in pieces:
            for frame in parser.feed(piece, [new_fd(1) for _ in range(n_fds)]):
                assert len(frame.payload) <= 1000
                for fd in frame.fds:
                    os.close(fd)
    except ProtocolError:
        pass
    parser.close()
    assert open_descriptors() == before


def test_descriptors_that_no_frame_takes_are_refused_and_closed() -> None:
    before = open_descriptors()
    parser = FrameParser(max_frame_fds=4)
    with pytest.raises(ProtocolError, match="without a frame"):
        parser.feed(b"", [new_fd(1) for _ in range(5)])
    parser.close()
    assert open_descriptors() == before


def test_frames_before_surplus_descriptors_do_not_leak_theirs() -> None:
    before = open_descriptors()
    parser = FrameParser(max_frame_fds=4)
    with pytest.raises(ProtocolError, match="without a frame"):
        parser.feed(encode_frame(b"x", 1), [new_fd(1) for _ in range(6)])
    parser.close()
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.pack(MAX_FRAME_BYTES + 1, 0, 0), "exceeds"),
        (HEADER.pack(0xFFFFFFFF, 0, 0), "exceeds"),
        (HEADER.pack(1, 129, 0), "exceeds"),
        (HEADER.pack(1, 0, 1), "reserved"),
        (HEADER.pack(0, 1, 0), "announces 1 descriptors"),
    ],
)
def test_a_header_is_judged_before_anything_is_kept(header: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        FrameParser().feed(header)


def test_a_frame_too_long_cannot_be_made() -> None:
    with pytest.raises(ProtocolError):
        encode_frame(b"\0" * (MAX_FRAME_BYTES + 1))
    with pytest.raises(ProtocolError):
        encode_frame(b"", 129)


# -- contents ---------------------------------------------------------------------------------------

msgpack_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20) | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
TAGS = [str(kind.__struct_config__.tag) for kind in concrete_operations()]
almost_operations = st.builds(
    lambda tag, fields: {**fields, "op": tag}, st.sampled_from(TAGS), st.dictionaries(st.text(max_size=8), msgpack_like)
)
almost_messages = st.builds(
    lambda tag, fields: {**fields, "type": tag},
    st.sampled_from(["hello", "request", "cancel", "credit", "reply", "item", "end", "failure", "welcome"]),
    st.dictionaries(st.sampled_from(["number", "operation", "versions", "code", "items", "fields"]), msgpack_like),
)
anything = st.binary(max_size=300) | (msgpack_like | almost_operations | almost_messages).map(encode)


@given(anything)
def test_any_payload_is_a_message_or_a_protocol_error(payload: bytes) -> None:
    for decode in (decode_from_client, decode_from_daemon):
        with contextlib.suppress(ProtocolError):
            decode(payload)


@given(anything)
def test_any_operation_is_one_or_an_invalid_request(payload: bytes) -> None:
    with contextlib.suppress(InvalidRequestError):
        assert isinstance(ops.decode_operation(msgspec.Raw(payload)), ops.Operation)


def test_deep_nesting_is_refused() -> None:
    bomb = b"\x91" * 200_000 + b"\xc0"
    with pytest.raises(ProtocolError):
        decode_from_client(bomb)
    with pytest.raises(InvalidRequestError):
        ops.decode_operation(msgspec.Raw(bomb))


# What the wire can carry of each type; hypothesis' own `from_type` does not know msgspec's defaults.
LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    str: st.text(max_size=20),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=40),
    UUID: st.uuids(),
    type(None): st.none(),
}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    if kind in LEAVES:
        return LEAVES[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return st.one_of([values_of(argument) for argument in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values_of(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, arguments))
    if origin is list:
        return st.lists(values_of(arguments[0]), max_size=3)
    if origin in (dict, Mapping):
        return st.dictionaries(values_of(arguments[0]), values_of(arguments[1]), max_size=3)
    if issubclass(kind, Enum):
        return st.sampled_from(kind)
    if issubclass(kind, msgspec.Struct):
        return structs_of(kind)
    return st.from_type(kind)


def structs_of(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    parts = st.fixed_dictionaries({field.name: values_of(field.type) for field in msgspec.structs.fields(kind)})

    def build(fields: dict[str, Any]) -> Any:
        if kind is DatasetType:
            fields["name"] = "t" + "".join(char for char in fields["name"] if char.isascii() and char.isalnum())
            fields["metadata"] = tuple({entry.name: entry for entry in fields["metadata"]}.values())
        if kind is MetadataEntry:
            fields["name"] = "e" + "".join(char for char in fields["name"] if char in "abc019_")[:30]
            fields["key"] = "k" + fields["key"]
            for text in ("key", "unit", "doc"):
                fields[text] = "".join(char for char in fields[text] if char.isprintable())[:200]
        if kind is DataCoordinate:
            fields["required_values"] = tuple(range(len(fields["required_names"])))
        if kind in (Point, Circle):
            fields |= {"ra": abs(fields["ra"]) % 360, "dec": abs(fields["dec"]) % 90}
        if kind is Circle:
            fields["radius"] = abs(fields["radius"]) % 180
        if kind is Polygon:
            fields["corners"] = tuple(
                (abs(ra) % 360, abs(dec) % 90) for ra, dec in [*fields["corners"], (0.0, 0.0)] * 3
            )
        if kind is Timespan:
            fields["begin_ns"], fields["end_ns"] = sorted((fields["begin_ns"], fields["end_ns"]))
        return kind(**fields)

    return parts.map(build)


OPERATIONS = [kind for kind in concrete_operations() if kind not in (ops.Operation, ops.StreamOperation)]


@pytest.mark.parametrize("kind", OPERATIONS, ids=lambda kind: str(kind.__struct_config__.tag))
def test_every_operation_survives_the_wire(kind: type[ops.Operation[Any]]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(structs_of(kind))
    def check(operation: ops.Operation[Any]) -> None:
        assert ops.decode_operation(msgspec.Raw(encode(operation))) == operation

    check()


@pytest.mark.parametrize("kind", OPERATIONS, ids=lambda kind: str(kind.__struct_config__.tag))
def test_every_result_has_a_decoder(kind: type[ops.Operation[Any]]) -> None:
    decoder = msgspec.msgpack.Decoder(kind.result_type)
    with pytest.raises(msgspec.MsgspecError):
        decoder.decode(b"\xc1")


def test_only_requests_can_be_requested() -> None:
    assert ops.StreamOperation not in concrete_operations()
