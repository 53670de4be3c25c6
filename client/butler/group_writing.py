"""Several datasets written and stored as one group, all or none (DMS-MWBT-REQ-0063, 0076)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Hashable, Sequence
from typing import BinaryIO

import msgspec

from pantry.client.butler.publishing import NOT_PUBLISHED, PublishWish
from pantry.client.connection import Link
from pantry.client.formatters.declared import read_entries
from pantry.errors import PantryError, ProtocolError
from pantry.model.datasets import DatasetRef
from pantry.model.metadata import MetadataValue
from pantry.wire.operations import AbortPut, BeginPut, BeginPuts, CommitPuts, PutTicket


class Piece(msgspec.Struct, frozen=True):
    """One dataset of a group.

    Attributes
    ----------
    operation : BeginPut
        Which, and where.
    write : callable
        Writes its content to the file that belongs to its ticket.
    alike : callable
        From its ticket to a key: pieces whose keys are equal have the same bytes, which are then made once. None
        if the content is of no other piece.
    """

    operation: BeginPut
    write: Callable[[PutTicket, BinaryIO], None]
    alike: Callable[[PutTicket], Hashable] | None = None


def put_group(link: Link, pieces: Sequence[Piece], wish: PublishWish = NOT_PUBLISHED) -> tuple[DatasetRef, ...]:
    """Store all pieces or none; return the references in their order."""
    answer, fds = link.call_with_fds(BeginPuts(puts=tuple(piece.operation for piece in pieces)))
    try:
        with contextlib.ExitStack() as stack:
            # First of all, so that each is closed whatever happens.
            files = [stack.enter_context(open(fd, "w+b")) for fd in fds]
            if len(files) != len(pieces) or len(answer.tickets) != len(pieces):
                raise ProtocolError(f"the daemon sent {len(files)} descriptors in place of {len(pieces)}")
            _write_all(pieces, answer.tickets, files)
            metadata = tuple(_declared(ticket, file) for ticket, file in zip(answer.tickets, files, strict=True))
        # All closed before the commit: what anybody writes later has no effect.
        commit = CommitPuts(
            put=answer.tickets[0].put, metadata=metadata, publish=wish.targets, publish_wait_s=wish.wait_s
        )
        return link.call(commit).refs
    except BaseException as exc:
        if answer.tickets:
            abort_put(link, answer.tickets[0].put, wait=isinstance(exc, Exception))
        raise


def _write_all(pieces: Sequence[Piece], tickets: Sequence[PutTicket], files: Sequence[BinaryIO]) -> None:
    made: dict[Hashable, BinaryIO] = {}
    for piece, ticket, file in zip(pieces, tickets, files, strict=True):
        key = piece.alike(ticket) if piece.alike is not None else None
        twin = made.get(key) if key is not None else None
        if twin is not None:
            import shutil

            twin.seek(0)
            shutil.copyfileobj(twin, file, 1 << 20)
        else:
            piece.write(ticket, file)
        file.flush()
        if key is not None and twin is None:
            made[key] = file


def _declared(ticket: PutTicket, file: BinaryIO) -> dict[str, MetadataValue]:
    entries = ticket.ref.dataset_type.metadata
    if not entries:
        return {}
    # Not by its path: another user's daemon made it.
    with open(os.dup(file.fileno()), "rb") as written:
        written.seek(0)
        return read_entries(ticket.formatter, written, entries, str(ticket.ref))


def abort_put(link: Link, put: int, *, wait: bool) -> None:
    """Give up a put; waits for that, so that it can be tried again at once, unless the user is impatient."""
    if not wait:
        link.post(AbortPut(put=put))
        return
    # The daemon has given it up by itself if a commit failed or the connection broke.
    with contextlib.suppress(PantryError):
        link.call(AbortPut(put=put))
