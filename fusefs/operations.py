"""pyfuse3's requests, translated to the tree and to opened files, and errors to errno. Nothing else.

pyfuse3 runs each request in a task of one nursery, which any exception but `FUSEError` would bring down with
the mount; so every handler goes through `_answers`. Between two awaits a handler is a critical section.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import FileHandleT, FileInfo, FileNameT, FlagT, FUSEError, InodeT, ModeT, RequestContext, XAttrNameT

from pantry.errors import NotFoundError
from pantry.fusefs.attributes import DatasetAttributes, Owner, fill_attributes
from pantry.fusefs.caching import CachingShares
from pantry.fusefs.callers import Callers
from pantry.fusefs.directories import DirectoryReader
from pantry.fusefs.errors import errno_of
from pantry.fusefs.inodes import InodeTable
from pantry.fusefs.reading import Bytes, Files, OpenFile
from pantry.fusefs.statistics import Statistics
from pantry.fusefs.tree import FOR_EVER_S, File, Node, Root, Tree

P = ParamSpec("P")
T = TypeVar("T")
_DIRECTORY_IDLE_S = 3.0
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND | os.O_CREAT


def _answers(
    handler: Callable[Concatenate[PantryOperations, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[PantryOperations, P], Coroutine[Any, Any, T]]:
    """Let only `FUSEError` out of a handler, within the deadline."""

    async def guarded(self: PantryOperations, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with trio.fail_after(self.deadline_s):
                return await handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except Exception as exc:
            raise FUSEError(errno_of(exc, handler.__name__)) from exc

    functools.update_wrapper(guarded, handler)
    return guarded


class ReadOnlyOperations(pyfuse3.Operations):
    """Refuses everything that would change anything, with EROFS."""

    async def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise FUSEError(errno.EROFS)

    setattr = mknod = mkdir = unlink = rmdir = symlink = rename = link = _refuse
    create = write = setxattr = removexattr = _refuse


class PantryOperations(ReadOnlyOperations):
    """The file system.

    Parameters
    ----------
    tree : Tree
        What there is.
    files : Files
        Opens it.
    callers : Callers
        Tells who asks.
    statistics : Statistics
        For ``df``.
    shares : CachingShares
        Decides which incomplete files are read through the page cache.
    deadline_s : float
        After so many seconds a request fails with ETIMEDOUT.
    """

    enable_writeback_cache = False
    enable_acl = False
    supports_dot_lookup = False

    def __init__(
        self,
        tree: Tree,
        files: Files,
        callers: Callers,
        statistics: Statistics,
        shares: CachingShares,
        *,
        deadline_s: float = 300.0,
    ) -> None:
        super().__init__()
        self.deadline_s = deadline_s
        self._tree = tree
        self._files = files
        self._callers = callers
        self._statistics = statistics
        self._shares = shares
        self._dataset_attributes = DatasetAttributes(tree, files)
        self._owner = Owner.of_process()
        self._inodes: InodeTable[Node] = InodeTable(Root())
        self._open_files: dict[int, OpenFile] = {}
        self._open_directories: dict[int, DirectoryReader] = {}
        self._last_handle = 0
        # Inodes of which the kernel may hold pages that were read before the whole file had been verified, with
        # the number of opens that may still read such.
        self._unverified: dict[int, int] = {}
        self._incomplete: dict[int, int] = {}

    # -- names and attributes ------------------------------------------------------------------------

    @_answers
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> pyfuse3.EntryAttributes:
        """Find a name; one that is not there is remembered by the kernel for as long as collections are."""
        try:
            text = name.decode("utf-8")
        except UnicodeDecodeError:
            raise FUSEError(errno.ENOENT) from None
        parent = self._node(parent_inode)
        try:
            entry = await self._tree.lookup(parent, text, self._callers.user(ctx))
        except NotFoundError:
            # What repositories there are depends on who asks, so the kernel must not remember that.
            if isinstance(parent, Root):
                raise
            absent = pyfuse3.EntryAttributes()
            absent.st_ino = InodeT(0)
            absent.entry_timeout = self._tree.collections_ttl_s
            return absent
        number = self._inodes.number_of(entry.node)
        attributes = self._attributes(number, entry.node)
        attributes.entry_timeout = entry.valid_s
        self._inodes.count(number, entry.node)
        return attributes

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Forget what the kernel has forgotten."""
        for number in self._inodes.forget(inode_list):
            self._unverified.pop(number, None)

    @_answers
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> pyfuse3.EntryAttributes:
        """Tell a node's attributes."""
        return self._attributes(inode, self._node(inode))

    @_answers
    async def access(self, inode: InodeT, mode: ModeT, ctx: RequestContext) -> bool:
        """Check access; normally the kernel does, by the mode bits."""
        if mode & os.W_OK:
            raise FUSEError(errno.EROFS)
        node = self._node(inode)
        await self._tree.authorise(node, self._callers.user(ctx))
        return not (mode & os.X_OK and isinstance(node, File))

    @_answers
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        """Tell the cache's size and what is free of it."""
        return await self._statistics.get()

    # -- directories ------------------------------------------------------------------------------------

    @_answers
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Open a directory for the asking user."""
        node, user = self._node(inode), self._callers.user(ctx)
        if isinstance(node, File):
            raise FUSEError(errno.ENOTDIR)
        await self._tree.authorise(node, user)
        handle = self._new_handle()
        self._open_directories[handle] = DirectoryReader(lambda: self._tree.pages(node, user))
        return handle

    @_answers
    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Give names with their attributes, as many as the kernel has room for."""
        entries = await self._open_directories[fh].entries_from(start_id)
        # No await from here on; each entry that was taken counts as a look-up.
        attributes = pyfuse3.EntryAttributes()
        for position, entry in enumerate(entries, start_id + 1):
            number = self._inodes.number_of(entry.node)
            fill_attributes(attributes, number, entry.node, self._owner)
            attributes.attr_timeout = self._attribute_timeout(entry.node)
            attributes.entry_timeout = entry.valid_s
            if not pyfuse3.readdir_reply(token, FileNameT(entry.name.encode()), attributes, position):
                break
            self._inodes.count(number, entry.node)

    async def park_idle_directories(self) -> None:
        """Let go of listings that nobody goes on with, for as long as the mount lasts."""
        while True:
            await trio.sleep(_DIRECTORY_IDLE_S)
            for reader in list(self._open_directories.values()):
                await reader.park(_DIRECTORY_IDLE_S)

    @_answers
    async def releasedir(self, fh: FileHandleT) -> None:
        """Close a directory."""
        await self._open_directories.pop(fh).close()

    # -- files -------------------------------------------------------------------------------------------

    @_answers
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """Open a file for reading; the daemon authorises the asking user."""
        if flags & _WRITING:
            raise FUSEError(errno.EROFS)
        node = self._node(inode)
        if not isinstance(node, File):
            raise FUSEError(errno.EISDIR)
        opened = await self._files.open(node, self._callers.user(ctx))
        handle = self._new_handle()
        self._open_files[handle] = opened
        # The content of an inode never changes, so the kernel may keep its pages; but those that were read
        # before the whole file had been verified go when it has been.
        keep = True
        if not opened.complete and not self._shares.take_file(opened.user):
            return FileInfo(fh=handle, direct_io=True)
        if not opened.complete:
            self._incomplete[handle] = inode
            self._unverified[inode] = self._unverified.get(inode, 0) + 1
        elif self._unverified.get(inode) == 0:
            del self._unverified[inode]
            keep = False
        return FileInfo(fh=handle, direct_io=False, keep_cache=keep)

    async def read(self, fh: FileHandleT, off: int, size: int) -> Bytes:  # type: ignore[override]  # any buffer will do
        """Read from an open file."""
        opened = self._open_files[fh]
        try:
            # Where it waits for the daemon it has a deadline of its own.
            if opened.complete or fh not in self._incomplete:
                return await opened.read(off, size)
            with self._shares.waiting(opened.user):
                return await opened.read(off, size)
        except Exception as exc:
            raise FUSEError(errno_of(exc, f"reading {opened.file.repository} {opened.file.id}")) from exc

    # `flush` is left out: the kernel hears ENOSYS once, and then spares every close a request.

    @_answers
    async def release(self, fh: FileHandleT) -> None:
        """Close a file."""
        opened = self._open_files.pop(fh)
        inode = self._incomplete.pop(fh, 0)
        if inode:
            self._shares.give_file_back(opened.user)
        if inode in self._unverified:
            self._unverified[inode] -= 1
        await opened.close()

    # -- extended attributes ---------------------------------------------------------------------------------

    @_answers
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        """Name a file's extended attributes; directories have none."""
        return self._dataset_attributes.names if isinstance(self._node(inode), File) else ()

    @_answers
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        """Tell what is known of a file's dataset."""
        node = self._node(inode)
        if not isinstance(node, File) or name not in self._dataset_attributes.names:
            raise FUSEError(errno.ENODATA)
        return await self._dataset_attributes.get(node, name, self._callers.user(ctx))

    # -- inside ----------------------------------------------------------------------------------------------

    def _node(self, inode: int) -> Node:
        try:
            return self._inodes[inode]
        except KeyError:
            raise FUSEError(errno.ESTALE) from None

    def _new_handle(self) -> FileHandleT:
        self._last_handle += 1
        return FileHandleT(self._last_handle)

    def _attribute_timeout(self, node: Node) -> float:
        return FOR_EVER_S if isinstance(node, File) else self._tree.collections_ttl_s

    def _attributes(self, inode: int, node: Node) -> pyfuse3.EntryAttributes:
        attributes = pyfuse3.EntryAttributes()
        fill_attributes(attributes, inode, node, self._owner)
        attributes.attr_timeout = self._attribute_timeout(node)
        return attributes
