"""Storing one object without ever replacing another, with services of all kinds.

A request may be repeated by botocore after the service has obeyed it already; the second answer
then says "exists". Every object therefore carries its writer's token in its metadata, and whoever
meets an existing object, or does not know how a request ended, looks whose it is.

A conditional PUT is atomic where it is known at all. A conditional completion of a multipart upload
is not: of six at once, SeaweedFS 4.48 lets up to six pass. Who completes an upload therefore first
makes the empty object ``.pantry-<hash of the key>`` beside the target by a conditional PUT, and
deletes it afterwards: only one completes at a time, and the next one finds the object.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import trio
import xxhash

from pantry.backends.admission import Admission
from pantry.backends.contract import RESERVED_PREFIX, ObjectStat
from pantry.backends.s3._answers import ConflictAnswerError, NotImplementedAnswerError, PreconditionError
from pantry.backends.s3._blocking import S3Store
from pantry.errors import (
    BackendError,
    ObjectExistsError,
    ObjectNotFoundError,
    PantryError,
    TransientBackendError,
)

T = TypeVar("T")

MAX_PARTS = 10_000
PARTS_AT_ONCE = 4
PROBE_BYTES = 1 << 20
ABORT_TIMEOUT_S = 30.0
CLAIM_ATTEMPTS = 5
CLAIM_WAIT_S = 0.05


class _VanishedError(TransientBackendError):
    """A write was refused because of an object that is gone by now."""


def claim_key(key: str) -> str:
    """Name the object that says "somebody is completing an upload of ``key``"."""
    directory, slash, _ = key.rpartition("/")
    return f"{directory}{slash}{RESERVED_PREFIX}{xxhash.xxh3_128_hexdigest(key.encode())}"


class Writer:
    """Writes objects; learns whether the service honours conditional requests.

    Attributes
    ----------
    conditional : bool or None
        None until the first small write has shown it.
    """

    def __init__(self, store: S3Store, admission: Admission, *, part_bytes: int, conditional: bool | None) -> None:
        self._store = store
        self._admission = admission
        self._part_bytes = part_bytes
        self.conditional = conditional
        self._uploads: dict[str, str] = {}  # id of an upload under way in this process -> its token

    async def write(self, key: str, fd: int, size_bytes: int, token: str) -> ObjectStat:
        """Store a new object; see `pantry.backends.contract.ObjectBackend.write_from`."""
        large = size_bytes > self._part_bytes
        if large or self.conditional is not True:  # before a large object is sent in vain
            await self._require_absent(key)
        if large:
            return await self._write_parts(key, fd, size_bytes, token)
        put = partial(self._store.put, key, fd, size_bytes, token, trio.from_thread.check_cancelled)
        stored = await self._publish(key, size_bytes, token, put)
        if self.conditional is None and size_bytes <= PROBE_BYTES:
            await self._probe(put)
        return stored

    async def undo(self, key: str, token: str) -> bool:
        """Abort this key's uploads that nobody here is writing, and delete the object if it is ours."""
        removed = await self._release(claim_key(key), token)
        for upload in await self._call(partial(self._store.uploads_of, key)):
            # An upload does not show its token. One of another live write in this process is spared;
            # one of another node's concurrent write to the same key fails there, cleanly.
            if self._uploads.get(upload, token) == token:
                removed |= await self._call(partial(self._store.abort_upload, key, upload))
        found = await self._find(key)
        if found is None or found[1] != token:
            return removed
        try:
            await self._call(partial(self._store.delete, key, if_version=found[0].version))
        except PreconditionError:
            return removed  # somebody else's by now
        return True

    async def _complete(
        self, key: str, fd: int, size_bytes: int, token: str, complete: Callable[..., None]
    ) -> ObjectStat:
        """Complete an upload while nobody else completes one of the same key."""
        if self.conditional is False:
            await self._require_absent(key)
            return await self._publish(key, size_bytes, token, complete)
        claim = claim_key(key)
        put = partial(self._store.put, claim, fd, 0, token, trio.from_thread.check_cancelled)
        try:
            await self._take(claim, key, token, put)
            if self.conditional is None:
                await self._probe(put)
            return await self._publish(key, size_bytes, token, complete)
        finally:
            with trio.move_on_after(ABORT_TIMEOUT_S, shield=True):
                await self._release(claim, token)

    async def _take(self, claim: str, key: str, token: str, put: Callable[..., None]) -> None:
        for attempt in range(CLAIM_ATTEMPTS):
            try:
                await self._publish(claim, 0, token, put)
            except (ObjectExistsError, _VanishedError):
                # Another completes: either it has made the object by now, or it failed and it is our turn.
                await self._require_absent(key)
                await trio.sleep(CLAIM_WAIT_S * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            else:
                return
        raise ObjectExistsError(
            f"{key!r} is being written by somebody else",
            hint=f"If that writer is gone for good, delete {claim!r} in the bucket.",
            key=key,
        )

    async def _release(self, claim: str, token: str) -> bool:
        try:
            found = await self._find(claim)
            if found is None or found[1] != token:
                return False
            await self._call(partial(self._store.delete, claim))
        except BackendError:
            return False  # `undo_write` finds it again
        return True

    async def _publish(
        self, key: str, size_bytes: int, token: str, send: Callable[..., None], *, again: bool = True
    ) -> ObjectStat:
        """Run ``send(conditional=...)``, which makes the object visible, and find out how it ended."""
        try:
            await self._call(partial(send, conditional=self.conditional is not False))
        except NotImplementedAnswerError:
            if not again or self.conditional is False:
                raise
            self.conditional = False
            await self._require_absent(key)
            return await self._publish(key, size_bytes, token, send, again=False)
        except (PreconditionError, ConflictAnswerError, TransientBackendError, ObjectNotFoundError) as exc:
            # Not found: an upload that is no more, since the first of two completions obeyed.
            found = await self._find(key)
            if found is not None and found[1] == token and found[0].size_bytes == size_bytes:
                return found[0]
            if found is not None and isinstance(exc, PreconditionError | ConflictAnswerError):
                raise ObjectExistsError(f"{key!r} exists already", key=key) from exc
            if isinstance(exc, PreconditionError | ObjectNotFoundError):
                raise _VanishedError(f"the write of {key!r} was refused, yet there is no object", key=key) from exc
            raise
        return await self._confirm(key, size_bytes, token)

    async def _confirm(self, key: str, size_bytes: int, token: str) -> ObjectStat:
        status, owner = await self._call(partial(self._store.head, key))
        if owner is not None and owner != token:
            # Only where writes are not conditional: somebody replaced it between our write and now.
            raise ObjectExistsError(f"{key!r} was written by somebody else at the same time", key=key)
        if status.size_bytes != size_bytes:
            raise TransientBackendError(f"{key!r} was stored with {status.size_bytes} of {size_bytes} bytes", key=key)
        return status

    async def _probe(self, put: Callable[..., None]) -> None:
        """Write the same object again: a service that honours the condition refuses, one that ignores it obeys.

        Both leave the content as it is.
        """
        try:
            await self._call(partial(put, conditional=True))
            self.conditional = False
        except PreconditionError:
            self.conditional = True
        except BackendError:
            return  # not known yet; the next write asks again

    async def _write_parts(self, key: str, fd: int, size_bytes: int, token: str) -> ObjectStat:
        upload = await self._call(partial(self._store.create_upload, key, token))
        self._uploads[upload] = token
        finished = False
        try:
            etags = await self._send_parts(key, fd, size_bytes, upload)
            complete = partial(self._store.complete_upload, key, upload, etags)
            stored = await self._complete(key, fd, size_bytes, token, complete)
            finished = True
            return stored
        finally:
            del self._uploads[upload]
            if not finished:
                await self._abort(key, upload)

    async def _send_parts(self, key: str, fd: int, size_bytes: int, upload: str) -> list[str]:
        part_bytes = max(self._part_bytes, math.ceil(size_bytes / MAX_PARTS))
        starts = range(0, size_bytes, part_bytes)
        etags = [""] * len(starts)
        waiting = iter(enumerate(starts))
        failures: list[PantryError] = []

        async def send() -> None:
            # `waiting` is shared: no await between taking a part and beginning it.
            for index, start in waiting:
                stop = min(start + part_bytes, size_bytes)
                checkpoint = trio.from_thread.check_cancelled
                call = partial(self._store.upload_part, key, upload, index + 1, fd, start, stop, checkpoint)
                try:
                    etags[index] = await self._call(call)
                except PantryError as exc:
                    failures.append(exc)
                    nursery.cancel_scope.cancel()
                    return

        async with trio.open_nursery() as nursery:
            for _ in range(min(PARTS_AT_ONCE, len(starts))):
                nursery.start_soon(send)
        if failures:
            raise failures[0]
        return etags

    async def _abort(self, key: str, upload: str) -> None:
        with trio.move_on_after(ABORT_TIMEOUT_S, shield=True):
            try:
                await self._call(partial(self._store.abort_upload, key, upload))
            except BackendError:
                return  # `undo_write` finds it again

    async def _require_absent(self, key: str) -> None:
        if await self._find(key) is not None:
            raise ObjectExistsError(f"{key!r} exists already", key=key)

    async def _find(self, key: str) -> tuple[ObjectStat, str | None] | None:
        try:
            return await self._call(partial(self._store.head, key))
        except ObjectNotFoundError:
            return None

    async def _call(self, func: Callable[[], T]) -> T:
        return await self._admission.call(func)
