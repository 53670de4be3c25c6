"""The VOSpace backend: async methods over the blocking requests of this package (decision 0059)."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Mapping
from functools import partial

import trio

from pantry.backends.admission import Admission
from pantry.backends.contract import (
    BackendFactory,
    ByteRange,
    Capabilities,
    ObjectStat,
    check_key,
    check_prefix,
    check_span,
    check_token,
)
from pantry.backends.credentials import Credential
from pantry.backends.progress import Progress
from pantry.backends.pumping import BodyCutError, Reading
from pantry.backends.resuming import read_on
from pantry.backends.vospace._blocking import Web
from pantry.backends.vospace._data import Data, EndpointsFailedError
from pantry.backends.vospace._described import described, key_of
from pantry.backends.vospace._documents import LENGTH, Child
from pantry.backends.vospace._reading import Reader
from pantry.backends.vospace._service import Service
from pantry.backends.vospace._writing import Writer
from pantry.backends.vospace.options import VOSpaceOptions, parse_options, split_root
from pantry.errors import BackendError, InvalidRequestError, ObjectNotFoundError


class VOSpaceBackend:
    """Objects that are the data nodes below one container.

    Parameters
    ----------
    root : str
        ``vos://authority/path``.
    options : VOSpaceOptions
        How to reach the service.
    credential : Credential or None
        Who asks it.
    admission : Admission
        Lets the blocking requests into threads.
    """

    def __init__(self, root: str, options: VOSpaceOptions, credential: Credential | None, admission: Admission) -> None:
        authority, path = split_root(root)
        self._location = root.rstrip("/")
        self._options = options
        self._admission = admission
        self._web = Web(options, credential)
        service = Service(self._web, authority, path, options)
        data = Data(self._web, service, options)
        self._reader = Reader(service, data)
        self._writer = Writer(service, data, self._location)

    def __repr__(self) -> str:
        return f"VOSpaceBackend({self._location!r})"

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do: a move never replaces (VOSpace 2.1, section 5.2.2)."""
        return Capabilities(conditional_write=True)

    @property
    def location(self) -> str:
        """The root as a ``vos:`` URI."""
        return self._location

    # -- reading ---------------------------------------------------------------------------------------

    async def stat(self, key: str) -> ObjectStat:
        """Describe one object by getNode; links are followed as long as they stay below the root."""
        check_key(key)
        return await self._admission.call(partial(self._reader.stat, key, trio.from_thread.check_cancelled))

    async def read_into(
        self,
        key: str,
        span: ByteRange,
        fd: int,
        *,
        if_version: str | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Stream ``span`` into ``fd``; a connection that is cut is taken up where it ended."""
        check_key(key)
        check_span(span)
        reading = Reading(key, span.start, span.stop, fd, if_version, trio.from_thread.check_cancelled, on_progress)
        await read_on(
            self._reader.read,
            reading,
            self._admission,
            most=self._options.max_attempts,
            failing=(BodyCutError, EndpointsFailedError),
        )

    async def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """Iterate over the data nodes whose key begins with ``prefix``, container by container, page by page."""
        check_prefix(prefix)
        waiting = [prefix.rpartition("/")[0]]
        while waiting:
            container = waiting.pop()
            marks = [""]
            while page := await self._page(container, marks):
                for child in page:
                    key = key_of(container, child)
                    if key is None:
                        continue
                    if child.kind == "ContainerNode":
                        if key.startswith(prefix) or prefix.startswith(f"{key}/"):
                            waiting.append(key)
                    elif key.startswith(prefix) and (status := await self._described(key, child)) is not None:
                        yield status

    async def _page(self, container: str, marks: list[str]) -> list[Child]:
        """List what follows the last of ``marks``, and mark its end; empty if there is no more, or no container."""
        listing = partial(self._reader.page, container, marks[-1], trio.from_thread.check_cancelled)
        try:
            page = await self._admission.call(listing)
        except ObjectNotFoundError:
            return []  # the prefix names none, or it went away meanwhile
        if page:
            if page[-1].name in marks:
                raise BackendError(f"{self._location} lists the same page of {container!r} again and again")
            marks.append(page[-1].name)
        return page

    async def _described(self, key: str, child: Child) -> ObjectStat | None:
        if child.kind != "LinkNode" and LENGTH in child.properties:
            return described(key, child)
        asking = partial(self._reader.child, key, child, trio.from_thread.check_cancelled)
        return await self._admission.call(asking)

    # -- writing ---------------------------------------------------------------------------------------

    async def write_from(self, key: str, fd: int, size_bytes: int, *, token: str) -> ObjectStat:
        """Send the bytes to a node of a hidden container, and move it to its name, which never replaces."""
        check_key(key)
        check_token(token)
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_size < size_bytes:
            raise InvalidRequestError(f"the data of {key!r} has {status.st_size} bytes, not {size_bytes}")
        return await self._admission.call(
            partial(self._writer.write, key, fd, size_bytes, token, trio.from_thread.check_cancelled)
        )

    async def undo_write(self, key: str, *, token: str) -> bool:
        """Delete the node if it carries ``token`` and is still what was written, and the hidden container."""
        check_key(key)
        check_token(token)
        return await self._admission.call(partial(self._writer.undo, key, token, trio.from_thread.check_cancelled))

    async def settle_write(self, key: str, *, token: str) -> None:
        """Take the token off the node, and remove the hidden container."""
        check_key(key)
        check_token(token)
        await self._admission.call(partial(self._writer.settle, key, token, trio.from_thread.check_cancelled))

    async def delete(self, key: str) -> None:
        """Delete one data node or link; a container stays."""
        check_key(key)
        await self._admission.call(partial(self._writer.delete, key, trio.from_thread.check_cancelled))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._admission.call(self._web.close)


def make_vospace_backend(root: str, options: Mapping[str, object], admission: Admission) -> VOSpaceBackend:
    """Make a `VOSpaceBackend` of ``vos://authority/path``; see `VOSpaceOptions` for the options.

    Raises
    ------
    ConfigError
        For a bad root or option.
    """
    parsed, credential = parse_options(options)
    return VOSpaceBackend(root, parsed, credential, admission)


VOSpaceBackendFactory: BackendFactory = make_vospace_backend
"""What the entry point names."""
