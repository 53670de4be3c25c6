"""The kernel's requests, translated to the tree and to opened files, and errors to errno. Nothing else.

Between two awaits a handler is a critical section.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import trio

from pantry.errors import NotFoundError
from pantry.fusefs import self_test
from pantry.fusefs.attributes import DatasetAttributes, Owner, attributes_of
from pantry.fusefs.caching import CachingShares
from pantry.fusefs.callers import Callers
from pantry.fusefs.directories import DirectoryReader
from pantry.fusefs.errors import errno_of
from pantry.fusefs.handles import Handle
from pantry.fusefs.inodes import ROOT_INODE
from pantry.fusefs.kept import Kept
from pantry.fusefs.kernel.device import Buffer
from pantry.fusefs.kernel.filesystem import Caller, FuseError, Listing, NoEntry, Opened, Soon, Space
from pantry.fusefs.kernel.messages import Attributes, EntryAnswer, OpenFlag
from pantry.fusefs.link import User
from pantry.fusefs.listings import KeptListings
from pantry.fusefs.modes import OpenModes
from pantry.fusefs.reading import Files, OpenFile
from pantry.fusefs.self_test import PassthroughTest
from pantry.fusefs.statistics import Statistics
from pantry.fusefs.tree import FOR_EVER_S, Entry, File, Listed, Node, Root, Tree

_DIRECTORY_IDLE_S = 3.0
_DOTS = 2
"""Entries before those of the tree: the directory and its parent."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND | os.O_CREAT


class PantryOperations:
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
    kept : Kept
        What the kernel knows already.
    modes : OpenModes
        Decides which files the kernel reads by itself.
    test : PassthroughTest
        Finds out whether it can.
    """

    def __init__(
        self,
        tree: Tree,
        files: Files,
        callers: Callers,
        statistics: Statistics,
        shares: CachingShares,
        kept: Kept,
        modes: OpenModes,
        test: PassthroughTest,
    ) -> None:
        self._tree = tree
        self._files = files
        self._callers = callers
        self._statistics = statistics
        self._shares = shares
        self._dataset_attributes = DatasetAttributes(tree, files)
        self._owner = Owner.of_process(kept.mounted_ns)
        self._inodes = kept.inodes
        self._handles = kept.handles
        self._unverified = kept.unverified
        self._modes = modes
        self._test = test
        kept.count_opens(modes)
        # What is missing here of the files' handles was opened by an earlier process; see `_again`.
        self._open_files: dict[int, OpenFile] = {}
        # Those that the process was asked to read: most listings the kernel has already.
        self._open_directories: dict[int, DirectoryReader] = {}
        self._listings = KeptListings()
        self._opening_again: dict[int, trio.Lock] = {}
        self._shared: dict[int, User] = {}

    def errno_of(self, error: Exception, doing: str) -> int:
        """Choose the errno for an error, and log it if need be."""
        return errno_of(error, doing)

    # -- names and attributes ------------------------------------------------------------------------

    async def lookup(self, parent: int, name: bytes, caller: Caller) -> EntryAnswer | NoEntry:
        """Find a name; one that is not there is remembered by the kernel for as long as collections are."""
        if name == self._test.name and parent == ROOT_INODE:
            return self._test.entry()
        try:
            text = name.decode("utf-8")
        except UnicodeDecodeError:
            raise FuseError(errno.ENOENT) from None
        node = self._node(parent)
        try:
            entry = await self._tree.lookup(node, text, self._callers.user(caller))
        except NotFoundError:
            # What repositories there are depends on who asks, so the kernel must not remember that.
            if isinstance(node, Root):
                raise
            return NoEntry(self._tree.collections_ttl_s)
        answer = self._entry(entry)
        self._inodes.count(answer.attributes.number, entry.node)
        return answer

    def forget(self, node: int, references: int) -> None:
        """Forget what the kernel has forgotten."""
        if self._inodes.forget(node, references):
            self._unverified.forget(node)
            self._listings.forget(node)

    def getattr(self, node: int, caller: Caller) -> tuple[Attributes, float]:
        """Tell a node's attributes, which never change."""
        if node == self_test.INODE:
            return self._test.entry().attributes, 0.0
        return attributes_of(node, self._node(node), self._owner), FOR_EVER_S

    async def access(self, node: int, mode: int, caller: Caller) -> None:
        """Check access; normally the kernel does, by the mode bits."""
        if mode & os.W_OK:
            raise FuseError(errno.EROFS)
        found = self._node(node)
        await self._tree.authorise(found, self._callers.user(caller))
        if mode & os.X_OK and isinstance(found, File):
            raise FuseError(errno.EACCES)

    def statfs(self, caller: Caller) -> Soon[Space]:
        """Tell the cache's size and what is free of it."""
        return self._statistics.get()

    # -- directories ------------------------------------------------------------------------------------

    def opendir(self, node: int, caller: Caller) -> Soon[Opened]:
        """Open a directory for the asking user."""
        self._take_back(caller)
        found, user = self._node(node), self._callers.user(caller)
        if isinstance(found, File):
            raise FuseError(errno.ENOTDIR)
        listed = self._tree.listed_at_once(found, user)
        if listed is None:
            return self._open_directory_waiting(node, found, user, caller.request)
        return self._open_directory(node, user, caller.request, listed)

    async def _open_directory_waiting(self, node: int, found: Node, user: User, request: int) -> Opened:
        return self._open_directory(node, user, request, await self._tree.listed(found, user))

    def _open_directory(self, node: int, user: User, request: int, listed: Listed) -> Opened:
        handle = self._handles.add(Handle(node, user, request, directory=True))
        if not listed.state:
            return Opened(handle)
        if self._listings.may_use_again(node, listed.state, listed.valid_s):
            return Opened(handle, OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE)
        return Opened(handle, OpenFlag.CACHE_DIR)

    async def readdir(self, handle: int, position: int, listing: Listing) -> Listing:
        """Give names with their attributes, as many as the kernel has room for.

        A directory begins with itself and its parent. Else the kernel would keep the listing of an empty one for ever:
        it forgets pages, and that has none.
        """
        kept = self._kept(handle)
        found = self._node(kept.inode)
        reader = self._open_directories.get(handle)
        if reader is None:
            # It is the first read, or an earlier process opened the directory.
            reader = self._open_directories[handle] = DirectoryReader(lambda: self._tree.pages(found, kept.user))
        entries = await reader.entries_from(max(position - _DOTS, 0))
        # No await from here on; with attributes each entry that was taken counts as a look-up.
        if position < _DOTS and not isinstance(found, File):
            above = self._inodes.number_of(found.parent)
            for name, number in ((b".", kept.inode), (b"..", above))[position:]:
                position += 1
                listing.add_link(name, number, position)
        for after, entry in enumerate(entries, position + 1):
            answer = self._entry(entry)
            if not listing.add(entry.name.encode(), answer, after):
                break
            if listing.with_attributes:
                self._inodes.count(answer.attributes.number, entry.node)
        return listing

    async def park_idle_directories(self) -> None:
        """Let go of listings that nobody goes on with, for as long as the mount lasts."""
        while True:
            await trio.sleep(_DIRECTORY_IDLE_S)
            for reader in list(self._open_directories.values()):
                await reader.park(_DIRECTORY_IDLE_S)

    def releasedir(self, handle: int) -> Soon[None]:
        """Close a directory."""
        self._handles.remove(handle)
        reader = self._open_directories.pop(handle, None)
        return None if reader is None else reader.close()

    # -- files -------------------------------------------------------------------------------------------

    async def open(self, node: int, flags: int, caller: Caller) -> Opened:
        """Open a file for reading; the daemon authorises the asking user."""
        self._take_back(caller)
        if flags & _WRITING:
            raise FuseError(errno.EROFS)
        if node == self_test.INODE:
            return self._test.opened()
        found = self._node(node)
        if not isinstance(found, File):
            raise FuseError(errno.EISDIR)
        user = self._callers.user(caller)
        opened = await self._files.open(found, user)
        # No await from here on: what was decided is told to the kernel in the same order.
        backing = self._modes.open(node, opened.fd, complete=opened.complete)
        incomplete = not opened.complete and not backing
        handle = self._handles.add(Handle(node, user, caller.request, backing, incomplete))
        if backing:
            self._files.close_soon(opened)  # the kernel has what it needs
            self._unverified.forget(node)  # the kernel drops its pages at each such open
            return Opened(handle, OpenFlag.NOFLUSH | OpenFlag.PASSTHROUGH, backing)
        self._open_files[handle] = opened
        return Opened(handle, OpenFlag.NOFLUSH | self._flags(node, handle, opened))

    def _flags(self, node: int, handle: int, opened: OpenFile) -> OpenFlag:
        """Decide how the kernel reads what it does not read by itself.

        The content of an inode never changes, so the kernel may keep its pages; but those that were read before the
        whole file had been verified go when it has been.
        """
        if opened.complete:
            return OpenFlag(0) if self._unverified.to_be_dropped(node) else OpenFlag.KEEP_CACHE
        self._unverified.opened(node)
        if not self._shares.take_file(opened.user):
            return OpenFlag.DIRECT_IO
        self._shared[handle] = opened.user
        return OpenFlag.KEEP_CACHE

    def read(self, handle: int, offset: int, size: int) -> Soon[Buffer]:
        """Read from an open file."""
        opened = self._open_files.get(handle)
        if opened is not None:
            data = opened.read_at_once(offset, size)
            if data is not None:
                return data
        return self._read_waiting(handle, offset, size)

    async def _read_waiting(self, handle: int, offset: int, size: int) -> Buffer:
        opened = self._open_files.get(handle) or await self._again(handle)
        if opened.complete or handle not in self._shared:
            return await opened.read(offset, size)
        with self._shares.waiting(opened.user):
            return await opened.read(offset, size)

    async def _again(self, handle: int) -> OpenFile:
        """Open again, for whom it was opened, a file that an earlier process had opened."""
        kept = self._kept(handle)
        lock = self._opening_again.setdefault(handle, trio.Lock())
        try:
            async with lock:
                if handle not in self._open_files:
                    self._open_files[handle] = await self._open_again(handle, kept)
        finally:
            if not lock.statistics().tasks_waiting:
                self._opening_again.pop(handle, None)
        return self._open_files[handle]

    async def _open_again(self, handle: int, kept: Handle) -> OpenFile:
        node = self._node(kept.inode)
        if not isinstance(node, File):
            raise FuseError(errno.EBADF)
        opened = await self._files.open(node, kept.user)
        if handle not in self._handles:
            self._files.close_soon(opened)
            raise FuseError(errno.EBADF)
        return opened

    def release(self, handle: int) -> Soon[None]:
        """Close a file."""
        kept = self._handles.remove(handle)
        if kept is not None:
            self._modes.close(kept.inode, kept.backing)
            if kept.incomplete:
                self._unverified.closed(kept.inode)
        if handle in self._shared:
            self._shares.give_file_back(self._shared.pop(handle))
        opened = self._open_files.pop(handle, None)
        return None if opened is None else opened.close()

    # -- extended attributes ---------------------------------------------------------------------------------

    def listxattr(self, node: int, caller: Caller) -> Sequence[bytes]:
        """Name a file's extended attributes; directories have none."""
        return self._dataset_attributes.names if isinstance(self._node(node), File) else ()

    def getxattr(self, node: int, name: bytes, caller: Caller) -> Soon[bytes]:
        """Tell what is known of a file's dataset."""
        found = self._node(node)
        if not isinstance(found, File) or name not in self._dataset_attributes.names:
            raise FuseError(errno.ENODATA)
        return self._dataset_attributes.get(found, name, self._callers.user(caller))

    # -- inside ----------------------------------------------------------------------------------------------

    def _node(self, inode: int) -> Node:
        try:
            return self._inodes[inode]
        except KeyError:
            raise FuseError(errno.ESTALE) from None

    def _kept(self, handle: int) -> Handle:
        try:
            return self._handles[handle]
        except KeyError:
            raise FuseError(errno.EBADF) from None

    def _take_back(self, caller: Caller) -> None:
        """Close what an earlier process opened for this very request and did not live to tell."""
        if not caller.resent:
            return
        handle = self._handles.unanswered(caller.request)
        if handle is None:
            return
        kept = self._handles.remove(handle)
        if kept is not None and not kept.directory:
            self._modes.close(kept.inode, kept.backing)
            if kept.incomplete:
                self._unverified.closed(kept.inode)

    def _entry(self, entry: Entry) -> EntryAnswer:
        number = self._inodes.number_of(entry.node)
        attributes = attributes_of(number, entry.node, self._owner)
        return EntryAnswer(attributes, entry.valid_s, FOR_EVER_S)
