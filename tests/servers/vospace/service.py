"""What all operations share: the tree, the people, the dialect, the rules of reading and writing."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from tests.servers.vospace import names
from tests.servers.vospace.config import Account, Dialect, ServerConfig
from tests.servers.vospace.faults import Fault
from tests.servers.vospace.request import join_path, parse_path
from tests.servers.vospace.tree import Node, Tree

_URI = re.compile(r"vos://([^/?#]+)([^?#]*)")


class Service:
    """One space.

    Attributes
    ----------
    dialect : Dialect
        May be replaced at any time; each request looks once.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.dialect: Dialect = config.dialect
        self.tree = Tree(Path(config.directory))
        self.tree.uri_of = self.uri
        public = {names.PUBLIC_READ: "true" if config.root_public else "false"}
        self.tree.make_root(config.root_owner, public)
        self._accounts = {account.name: account for account in config.accounts}
        self._lock = threading.Lock()
        self._unavailable_left = config.dialect.unavailable.count
        self._random = random.Random(config.dialect.unavailable.seed)
        self.jobs_released = threading.Event()
        self.set_dialect(config.dialect)

    def set_dialect(self, dialect: Dialect) -> None:
        """From now on."""
        with self._lock:
            self.dialect = dialect
            self._unavailable_left = dialect.unavailable.count
            self._random = random.Random(dialect.unavailable.seed)
        if dialect.hold_jobs:
            self.jobs_released.clear()
        else:
            self.jobs_released.set()

    def change_dialect(self, changes: dict[str, object]) -> None:
        """Change some of its habits; unknown ones are refused."""
        merged = {**msgspec.to_builtins(self.dialect), **changes}
        self.set_dialect(msgspec.convert(merged, Dialect))

    def is_unavailable(self, endpoint: str) -> bool:
        """Whether this request is answered with 503."""
        with self._lock:
            rule = self.dialect.unavailable
            if rule.endpoints and endpoint not in rule.endpoints:
                return False
            if self._unavailable_left > 0:
                self._unavailable_left -= 1
                return True
            return rule.rate > 0 and self._random.random() < rule.rate

    @property
    def namespace(self) -> str:
        return names.VOSPACE_NAMESPACES[self.dialect.namespace]

    # URIs (section 2)

    def uri(self, path: tuple[str, ...]) -> str:
        return f"vos://{self.config.authority.replace('!', self.dialect.separator)}{join_path(path)}"

    def parse_uri(self, uri: str) -> tuple[str, ...]:
        """The path of a node of this space; "!" and "~" are the same (compliance items 3 and 4)."""
        match = _URI.match(uri.strip())
        if match is None or match[1].replace("~", "!") != self.config.authority:
            raise Fault("InvalidURI", uri)
        return parse_path(match[2])

    # Finding nodes

    def find(self, path: tuple[str, ...], *, follow: bool = False) -> Node:
        """The node at a path: ContainerNotFound, LinkFound or NodeNotFound if it cannot be had.

        ``follow``: a link at the end is followed to the node of this space that it points to.
        """
        node = self._find(path, follow=follow, hops=0)
        if node is None:
            raise Fault("NodeNotFound", self.uri(path))
        return node

    def container(self, path: tuple[str, ...]) -> Node:
        """The container that the node at ``path`` is in."""
        return self._container(path, hops=0)

    def _container(self, path: tuple[str, ...], hops: int) -> Node:
        if not path:
            raise Fault("InvalidURI", self.uri(path))
        node = self.tree.find(())
        for depth in range(len(path) - 1):
            above = node
            node = self.tree.child(above, path[depth]) if above is not None else None
            if node is not None and node.is_link:
                if not self.dialect.resolve_links:
                    # 5.5: with "the full details of the LinkNode".
                    raise Fault("LinkFound", f"{self.uri(path[: depth + 1])} target {node.target}")
                node = self._find(self._target(node), follow=True, hops=hops + 1)
            if node is None or not node.is_container:
                raise Fault("ContainerNotFound", self.uri(path[: depth + 1]))
        assert node is not None
        return node

    def _find(self, path: tuple[str, ...], *, follow: bool, hops: int) -> Node | None:
        if hops > 20:
            raise Fault("NodeNotFound", f"{self.uri(path)}: links that lead in a circle")
        if not path:
            return self.tree.find(())
        node = self.tree.child(self._container(path, hops), path[-1])
        if node is not None and node.is_link and follow:
            return self._find(self._target(node), follow=True, hops=hops + 1)
        return node

    def _target(self, link: Node) -> tuple[str, ...]:
        try:
            return self.parse_uri(link.target or "")
        except Fault:
            raise Fault("NodeNotFound", f"the link leads out of this space, to {link.target}") from None

    # Rights (section 4 leaves the policy to the service): owner, groups, everybody, as CADC's services have it

    def may_read(self, account: Account | None, node: Node) -> bool:
        """Whether the node and all that it lies in may be read."""
        return all(self.may_read_alone(account, each) for each in self.tree.chain(node))

    def may_write(self, account: Account | None, node: Node) -> bool:
        """Whether the node may be written, and reached."""
        above = self.tree.chain(node)[:-1]
        return self._may_write_alone(account, node) and all(self.may_read_alone(account, each) for each in above)

    def check_read(self, account: Account | None, node: Node) -> None:
        if not self.may_read(account, node):
            self.deny(account, f"{self.uri(self.tree.path(node))} may not be read by {_name(account)}")

    def check_write(self, account: Account | None, node: Node) -> None:
        if not self.may_write(account, node):
            self.deny(account, f"{self.uri(self.tree.path(node))} may not be written by {_name(account)}")

    def deny(self, account: Account | None, why: str) -> None:
        if account is None and self.dialect.challenge_anonymous:
            raise Fault("NotAuthenticated", why)
        raise Fault("PermissionDenied", why)

    def may_read_alone(self, account: Account | None, node: Node) -> bool:
        """Whether the node may be read by whoever may read all that it lies in."""
        if node.properties.get(names.PUBLIC_READ) == "true":
            return True
        return self._may_write_alone(account, node) or _in_group(account, node, names.GROUP_READ)

    @staticmethod
    def _may_write_alone(account: Account | None, node: Node) -> bool:
        if node.owner == _ANYBODY:
            return True
        return account is not None and (node.owner == account.name or _in_group(account, node, names.GROUP_WRITE))

    def account(self, name: str | None) -> Account | None:
        return self._accounts.get(name) if name is not None else None

    @property
    def accounts(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    # Quotas

    def check_quota(self, container: Node, more_bytes: int) -> None:
        """QuotaExceeded if a container on the way to the root has no room for so many more bytes."""
        for each in reversed(self.tree.chain(container)):
            if each.quota is not None and self.tree.used_bytes(each) + more_bytes > each.quota:
                where = self.uri(self.tree.path(each))
                raise Fault("QuotaExceeded", f"{where} may hold {each.quota} bytes", status=self.dialect.quota_status)

    def quota_room(self, container: Node) -> int | None:
        """How many more bytes fit; None for no limit."""
        chain = self.tree.chain(container)
        rooms = [each.quota - self.tree.used_bytes(each) for each in chain if each.quota is not None]
        return min(rooms) if rooms else None


_ANYBODY = "anybody"
"""An owner that everybody is, so that a space can be open to all."""


def _name(account: Account | None) -> str:
    return account.name if account is not None else "somebody unknown"


def _in_group(account: Account | None, node: Node, which: str) -> bool:
    if account is None:
        return False
    groups: Sequence[str] = re.split(r"[,\s]+", node.properties.get(which, ""))
    return any(group in account.groups for group in groups if group)
