"""Describing, reading and listing data nodes, in threads."""

from __future__ import annotations

from pantry.backends.contract import ObjectStat, check_key, check_version
from pantry.backends.pumping import BodyCutError, Reading
from pantry.backends.vospace._blocking import Checkpoint
from pantry.backends.vospace._data import Data
from pantry.backends.vospace._described import described, is_md5
from pantry.backends.vospace._documents import Child, Node
from pantry.backends.vospace._service import Service
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ObjectChangedError,
    ObjectNotFoundError,
    TransientBackendError,
)

_MAX_LINKS = 8


class Reader:
    """Reads below one root; safe for use by many threads.

    Parameters
    ----------
    service : Service
        Tells of nodes.
    data : Data
        Gives their bytes.
    """

    def __init__(self, service: Service, data: Data) -> None:
        self._service = service
        self._data = data

    def stat(self, key: str, checkpoint: Checkpoint) -> ObjectStat:
        """Describe one object by getNode; links are followed as long as they stay below the root."""
        return described(key, self._resolved(key, checkpoint)[1].itself)

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

    def read(self, reading: Reading) -> None:
        """Stream the wanted bytes into the descriptor; `BodyCutError` if the body ends early."""
        # An MD5 comes with the data, if the service has one; otherwise the node is asked before and after.
        place, known = reading.key, reading.if_version
        if not is_md5(known) or reading.start == reading.stop:
            place, known = self._placed(reading)
            if reading.start == reading.stop:
                return
        try:
            sure = self._fetch(place, reading, known)
        except (BodyCutError, ObjectChangedError):
            raise
        except BackendError as exc:
            if "retry_after_s" in exc.fields:
                raise
            # What a service says to those who want the bytes of a container, or of a link, differs.
            found, known = self._placed(reading)
            if found == place:
                raise
            sure = self._fetch(found, reading, known)
        if reading.if_version is not None and not sure:
            check_version(reading.key, self.stat(reading.key, reading.checkpoint).version, reading.if_version)

    def _placed(self, reading: Reading) -> tuple[str, str]:
        """Find where an object lies, and its version, which must be the wanted one."""
        place, node = self._resolved(reading.key, reading.checkpoint)
        version = described(reading.key, node.itself).version
        check_version(reading.key, version, reading.if_version)
        return place, version

    def _fetch(self, place: str, reading: Reading, known: str | None) -> bool:
        wanted = reading.if_version if is_md5(reading.if_version) else None
        try:
            return self._data.fetch(reading._replace(key=place, if_version=wanted))
        except BodyCutError as exc:
            exc.version = exc.version or known or ""
            raise

    def page(self, container: str, after: str, checkpoint: Checkpoint) -> list[Child]:
        """List a page of children: those that follow the one of identifier ``after``."""
        page = self._service.children(container, after, checkpoint)
        if page.itself.kind != "ContainerNode":
            raise ObjectNotFoundError(f"no container {container!r}")
        # A page begins with the last node of the one before.
        return page.children[1:] if after and page.children and page.children[0].name == after else page.children

    def child(self, key: str, child: Child, checkpoint: Checkpoint) -> ObjectStat | None:
        """Describe a listed node of which the listing does not say enough; None if there is no object."""
        try:
            return self.stat(key, checkpoint)
        except ObjectNotFoundError:
            return None  # a link that leads nowhere, or a node that went away meanwhile
        except (TransientBackendError, BackendAccessError):
            raise  # a listing that lacks what could not be asked for would be taken for whole
        except BackendError:
            if child.kind == "LinkNode":
                return None  # it leads out of the root, or in circles: no object of ours
            raise
