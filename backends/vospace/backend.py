"""The VOSpace backend: async methods over the blocking requests of this package (decision 0059)."""

from __future__ import annotations

import os
import random
import re
import stat
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import partial

import trio
import xxhash

from pantry.backends.admission import Admission
from pantry.backends.contract import (
    RESERVED_PREFIX,
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
from pantry.backends.vospace._blocking import Checkpoint, Web
from pantry.backends.vospace._data import BodyCutError, Data
from pantry.backends.vospace._documents import DATE, LENGTH, MD5, MTIME, WRITE_PROPERTY, Child, Node
from pantry.backends.vospace._service import Service
from pantry.backends.vospace.options import VOSpaceOptions, parse_options, split_root
from pantry.errors import (
    BackendAccessError,
    BackendError,
    InvalidRequestError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    TransientBackendError,
)

_BACKOFF_S = 0.05
_MAX_LINKS = 8
_LENGTH = re.compile("[0-9]{1,18}")


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
        self._service = Service(self._web, authority, path, options)
        self._data = Data(self._web, self._service, options)

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
        return await self._admission.call(partial(self._stat, key, trio.from_thread.check_cancelled))

    def _stat(self, key: str, checkpoint: Checkpoint) -> ObjectStat:
        return _described(key, self._resolved(key, checkpoint)[1].itself)

    def _resolved(self, key: str, checkpoint: Checkpoint) -> tuple[str, Node]:
        """Give the data node that a key names, and the key where it lies."""
        place = key
        for _ in range(_MAX_LINKS):
            node = self._service.node(place, checkpoint)
            if node.itself.kind != "LinkNode":
                if node.itself.kind == "ContainerNode":
                    raise ObjectNotFoundError(f"no object {key!r}", key=key)
                return place, node
            target = self._service.relative(node.itself.target)
            if target is None:
                raise BackendError(
                    f"{key!r} is a link that leads out of the storage root",
                    hint="Only links to nodes below the root are followed.",
                    key=key,
                )
            place = check_key(target)
        raise BackendError(f"{key!r} is a link that leads in circles", key=key)

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
        start = span.start
        for attempt in range(1, self._options.max_attempts + 1):
            read = partial(
                self._read, key, start, span.stop, fd, if_version, trio.from_thread.check_cancelled, on_progress
            )
            try:
                await self._admission.call(read)
            except BodyCutError as exc:
                if attempt == self._options.max_attempts:
                    raise TransientBackendError(exc.message, key=key) from exc
                start = exc.position
                await trio.sleep(_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            else:
                return

    def _read(
        self,
        key: str,
        start: int,
        stop: int,
        fd: int,
        if_version: str | None,
        checkpoint: Checkpoint,
        on_progress: Progress | None,
    ) -> None:
        # An MD5 comes with the data, if the service has one; otherwise the node is asked before and after.
        md5 = if_version if if_version is not None and _is_md5(if_version) else ""
        place = key
        if start == stop or not md5:
            place, node = self._resolved(key, checkpoint)
            _check_version(key, _described(key, node.itself), if_version)
            if start == stop:
                return
        try:
            sure = self._data.fetch(place, start, stop, fd, md5, checkpoint, on_progress)
        except BackendError as exc:
            if isinstance(exc, (BodyCutError, ObjectChangedError)):
                raise
            # What a service says to those who want the bytes of a container, or of a link, differs.
            found, node = self._resolved(key, checkpoint)
            if found == place:
                raise
            _check_version(key, _described(key, node.itself), if_version)
            sure = self._data.fetch(found, start, stop, fd, md5, checkpoint, on_progress)
        if if_version is not None and not sure:
            _check_version(key, self._stat(key, checkpoint), if_version)

    async def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """Iterate over the data nodes whose key begins with ``prefix``, container by container, page by page."""
        check_prefix(prefix)
        above = prefix.rpartition("/")[0]
        waiting = [above]
        while waiting:
            container = waiting.pop()
            after = ""
            while True:
                listing = partial(self._page, container, after, trio.from_thread.check_cancelled)
                try:
                    page = await self._admission.call(listing)
                except ObjectNotFoundError:
                    break  # the prefix names no container, or it went away meanwhile
                children = (
                    page.children[1:] if after and page.children and page.children[0].name == after else page.children
                )
                if children and children[-1].name == after:
                    raise BackendError(f"{self._location} lists the same page of {container!r} again and again")
                for child in children:
                    key = _key_of(container, child)
                    if key is None:
                        continue
                    if child.kind == "ContainerNode":
                        if key.startswith(prefix) or prefix.startswith(f"{key}/"):
                            waiting.append(key)
                    elif key.startswith(prefix) and (status := await self._child(key, child)) is not None:
                        yield status
                if not children:
                    break
                after = children[-1].name

    def _page(self, container: str, after: str, checkpoint: Checkpoint) -> Node:
        page = self._service.children(container, after, checkpoint)
        if page.itself.kind != "ContainerNode":
            raise ObjectNotFoundError(f"no container {container!r}")
        return page

    async def _child(self, key: str, child: Child) -> ObjectStat | None:
        """Describe a listed node; asked for again if the listing does not say enough; None if there is no object."""
        if child.kind != "LinkNode" and LENGTH in child.properties:
            return _described(key, child)
        try:
            return await self.stat(key)
        except ObjectNotFoundError:
            return None  # a link that leads nowhere, or a node that went away meanwhile
        except (TransientBackendError, BackendAccessError):
            raise  # a listing that lacks what could not be asked for would be taken for whole
        except BackendError:
            if child.kind == "LinkNode":
                return None  # it leads out of the root, or in circles: no object of ours
            raise

    # -- writing ---------------------------------------------------------------------------------------

    async def write_from(self, key: str, fd: int, size_bytes: int, *, token: str) -> ObjectStat:
        """Send the bytes to a node of a hidden container, and move it to its name, which never replaces."""
        check_key(key)
        check_token(token)
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_size < size_bytes:
            raise InvalidRequestError(f"the data of {key!r} has {status.st_size} bytes, not {size_bytes}")
        return await self._admission.call(
            partial(self._write, key, fd, size_bytes, token, trio.from_thread.check_cancelled)
        )

    def _write(self, key: str, fd: int, size_bytes: int, token: str, checkpoint: Checkpoint) -> ObjectStat:
        service = self._service
        parent, _, name = key.rpartition("/")
        if self._exists(key, checkpoint):
            raise ObjectExistsError(f"{key!r} exists already", key=key)
        hidden = _hidden(key, token)
        try:
            service.make_container(hidden, checkpoint)
            draft = f"{hidden}/{name}"
            md5 = self._data.send(draft, fd, size_bytes, checkpoint)
            found = service.node(draft, checkpoint).itself
            _check_stored(key, found, size_bytes, md5)
            mark = f"{token} {size_bytes} {found.properties.get(MD5, '')}".rstrip()
            service.set_properties(draft, found.kind, {WRITE_PROPERTY: mark}, checkpoint)
            if service.node(draft, checkpoint).itself.properties.get(WRITE_PROPERTY) != mark:
                raise BackendError(
                    f"{self._location} does not keep properties of nodes",
                    hint="Pantry could not take back what it writes there: use this space for reading only.",
                )
            self._move(draft, key, parent, checkpoint)
            return _described(key, service.node(key, checkpoint).itself)
        except BaseException:
            # Cancelled or failed: nothing of it may stay. What cannot be removed now, `undo_write` removes.
            self._undo_quietly(key, token)
            raise

    def _exists(self, key: str, checkpoint: Checkpoint) -> bool:
        try:
            self._service.node(key, checkpoint)
        except ObjectNotFoundError:
            return False
        return True

    def _move(self, draft: str, key: str, parent: str, checkpoint: Checkpoint) -> None:
        try:
            self._service.move(draft, key, checkpoint)
        except (ObjectExistsError, BackendAccessError, TransientBackendError):
            raise
        except BackendError:
            # Some services move only into containers that are there.
            self._service.move(draft, parent, checkpoint)

    async def undo_write(self, key: str, *, token: str) -> bool:
        """Delete the node if it carries ``token`` and is still what was written, and the hidden container."""
        check_key(key)
        check_token(token)
        return await self._admission.call(partial(self._undo, key, token, trio.from_thread.check_cancelled))

    def _undo(self, key: str, token: str, checkpoint: Checkpoint) -> bool:
        removed = False
        try:
            found = self._service.node(key, checkpoint).itself
        except ObjectNotFoundError:
            pass
        else:
            if _carries(found, token):
                removed = self._service.delete(key, checkpoint)
        return self._remove_hidden(key, token, checkpoint) or removed

    def _undo_quietly(self, key: str, token: str) -> None:
        try:
            self._undo(key, token, lambda: None)
        except BackendError:
            return

    def _remove_hidden(self, key: str, token: str, checkpoint: Checkpoint) -> bool:
        hidden = _hidden(key, token)
        # First what is in it: some services refuse to delete containers that hold anything.
        drafted = self._service.delete(f"{hidden}/{key.rpartition('/')[2]}", checkpoint)
        return self._service.delete(hidden, checkpoint) or drafted

    async def settle_write(self, key: str, *, token: str) -> None:
        """Take the token off the node, and remove the hidden container."""
        check_key(key)
        check_token(token)
        await self._admission.call(partial(self._settle, key, token, trio.from_thread.check_cancelled))

    def _settle(self, key: str, token: str, checkpoint: Checkpoint) -> None:
        self._remove_hidden(key, token, checkpoint)
        try:
            found = self._service.node(key, checkpoint).itself
            if _carries(found, token):
                self._service.set_properties(key, found.kind, {WRITE_PROPERTY: None}, checkpoint)
        except ObjectNotFoundError:
            return

    async def delete(self, key: str) -> None:
        """Delete one data node or link; a container stays."""
        check_key(key)
        await self._admission.call(partial(self._delete, key, trio.from_thread.check_cancelled))

    def _delete(self, key: str, checkpoint: Checkpoint) -> None:
        try:
            if self._service.node(key, checkpoint).itself.kind == "ContainerNode":
                return
        except ObjectNotFoundError:
            return
        self._service.delete(key, checkpoint)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._admission.call(self._web.close)


def _hidden(key: str, token: str) -> str:
    """Container, beside the object, of what is being written: the name is the token's and the object's own."""
    parent, _, name = key.rpartition("/")
    own = f"{RESERVED_PREFIX}{token}.{xxhash.xxh3_64_hexdigest(name.encode())}"
    return f"{parent}/{own}" if parent else own


def _carries(node: Child, token: str) -> bool:
    mark = node.properties.get(WRITE_PROPERTY, "").split(" ")
    now = [token, node.properties.get(LENGTH, ""), node.properties.get(MD5, "")]
    return mark == (now if now[2] else now[:2])


def _check_stored(key: str, node: Child, size_bytes: int, md5: str) -> None:
    stored = node.properties.get(LENGTH, "").strip()
    said = node.properties.get(MD5, "").strip().lower()
    if stored != str(size_bytes) or (said and said != md5):
        raise TransientBackendError(
            f"the VOSpace service stored {stored or 'unknown'} bytes of MD5 {said or 'unknown'} for {key!r}, "
            f"where {size_bytes} of {md5} were sent",
            key=key,
        )


def _is_md5(version: str) -> bool:
    return len(version) == 32 and all(character in "0123456789abcdef" for character in version)


def _check_version(key: str, status: ObjectStat, if_version: str | None) -> None:
    if if_version is not None and status.version != if_version:
        raise ObjectChangedError(f"{key!r} is now version {status.version}, not {if_version}", key=key)


def _described(key: str, node: Child) -> ObjectStat:
    length = node.properties.get(LENGTH, "").strip()
    date = (node.properties.get(DATE) or node.properties.get(MTIME) or "").strip()
    md5 = node.properties.get(MD5, "").strip().lower()
    size_bytes = int(length) if _LENGTH.fullmatch(length) else 0
    return ObjectStat(
        key=key,
        size_bytes=size_bytes,
        version=md5 if _is_md5(md5) else f"time-{date}-{size_bytes:x}",
        modified_ns=_time_ns(date),
    )


def _time_ns(text: str) -> int:
    """Nanoseconds since 1970 of an ISO 8601 time, which is in UTC unless it says otherwise; 0 if it is none."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return 0
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return int(parsed.timestamp()) * 1_000_000_000 + parsed.microsecond * 1000


def _key_of(container: str, child: Child) -> str | None:
    """Key of a listed node; None if it can have none: hidden, or with an impossible name."""
    from urllib.parse import unquote

    name = unquote(child.name.rstrip("/").rpartition("/")[2])
    key = f"{container}/{name}" if container else name
    if "/" in name:
        return None  # an encoded slash: the key would be of another container's node
    try:
        return check_key(key)
    except InvalidRequestError:
        return None


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
