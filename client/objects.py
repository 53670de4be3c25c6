"""Plain objects: files of a storage that are read by their keys, through the node's cache."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO, cast

import msgspec

from pantry.client.butler.opened import OpenedFileBase
from pantry.client.connection import Connection, connect
from pantry.wire import operations as ops


class ObjectPrefix:
    """A storage root that the daemon's configuration names under ``prefixes``.

    Its objects may change. What the origin says of one is believed for the prefix's ``ttl_s``; a file that was
    opened stays at the version that it was opened in.

    Parameters
    ----------
    name : str
        As configured.
    socket : str, optional
        Of the daemon; the usual one by default.

    Examples
    --------
    >>> catalogs = ObjectPrefix("catalogs")
    >>> with catalogs.open("gaia/dr3/README.txt") as file:
    ...     text = file.read()
    """

    def __init__(self, name: str, *, socket: str | None = None) -> None:
        self.name = name
        self.connection: Connection = connect(socket)

    def list(self, begins: str = "") -> Iterator[ops.ObjectInfo]:
        """Iterate over the objects whose keys begin with a text, as the origin has them now."""
        for batch in self.connection.stream(ops.ListObjects(prefix=self.name, begins=begins)):
            yield from batch.objects

    def stat(self, key: str) -> ops.ObjectInfo:
        """Describe an object.

        Raises
        ------
        ObjectNotFoundError
            There is none.
        """
        return self.connection.call(ops.StatObject(prefix=self.name, key=key))

    def open(self, key: str, *, partial: bool = False) -> BinaryIO:
        """Open an object for reading.

        Parameters
        ----------
        key : str
            Of the object, below the prefix's root.
        partial : bool
            Fetch only what is read, in place of all of it before this returns.

        Returns
        -------
        file object
            Seekable, binary; of one version of the object.

        Raises
        ------
        ObjectNotFoundError
            There is none.
        BackendError
            The origin cannot be asked, and the configuration does not allow what is cached to be used.
        """
        with self.open_object(key, partial=partial) as source:
            if source.opened.complete:
                return source.complete_file()
            return cast(BinaryIO, io.BufferedReader(source.reader(), 1 << 16))

    def open_object(self, key: str, *, partial: bool = False) -> OpenedObjectFile:
        """Open an object as `open` does, and return what the daemon said of it too."""
        operation = ops.OpenObject(prefix=self.name, key=key, partial=partial)
        return OpenedObjectFile.open(self.connection.link(), operation)

    def read(self, key: str) -> bytes:
        """Return the whole content of an object."""
        with self.open(key) as file:
            return file.read()

    def close(self) -> None:
        """Close the connection; files stay open."""
        self.connection.close()

    def __enter__(self) -> ObjectPrefix:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OpenedObjectFile(OpenedFileBase[ops.OpenedObject]):
    """An open object: a descriptor, and a handle if it is not complete."""

    def _anew(self, stale: ops.OpenedObject) -> ops.Operation[ops.OpenedObject]:
        assert isinstance(self._operation, ops.OpenObject)  # noqa: S101 - by `open_object`
        return msgspec.structs.replace(self._operation, version=stale.info.version, uncached=True)
