"""Transfers that the service does itself: pullToVoSpace and pushFromVoSpace (5.4.2, 5.4.4)."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
import uuid

from tests.servers.vospace import names
from tests.servers.vospace.documents import Protocol, Transfer
from tests.servers.vospace.faults import Fault
from tests.servers.vospace.jobs import Job
from tests.servers.vospace.nodes import inherited, owner_of
from tests.servers.vospace.service import Service
from tests.servers.vospace.tree import Node

_TIMEOUT_S = 30.0
_BLOCK = 1 << 16


def run_outside(service: Service, job: Job, transfer: Transfer) -> None:
    """Fetch from, or send to, the first of the client's endpoints that works; each is tried once (3.6.3)."""
    is_pull = transfer.direction == "pullToVoSpace"
    understood = (names.HTTP_GET,) if is_pull else (names.HTTP_PUT,)
    usable = [each for each in transfer.protocols if each.uri in understood]
    if not usable:
        raise Fault("ProtocolNotSupported", ", ".join(each.uri for each in transfer.protocols))
    if any(not (each.endpoint or "").startswith("http://") for each in usable):
        raise Fault("InvalidArgument", "a protocol without an http endpoint")
    path = service.parse_uri(transfer.target)
    failures = []
    for protocol in usable:
        try:
            if is_pull:
                _pull(service, job, path, protocol)
            else:
                _push(service, job, path, protocol)
        except (OSError, http.client.HTTPException) as exc:
            failures.append(f"{protocol.endpoint}: {exc}")
        else:
            job.results["dataNode"] = service.uri(path)
            return
    raise Fault("TransferFailed", "; ".join(failures))


def _pull(service: Service, job: Job, path: tuple[str, ...], protocol: Protocol) -> None:
    account = job.origin.account
    with service.tree.change():
        parent = service.container(path)
        before = service.tree.child(parent, path[-1])
        service.check_write(account, before if before is not None else parent)
        if before is not None and not before.is_data:
            raise Fault("ViewNotSupported", "no archive format is unpacked into a container here")
        if before is not None:
            node = service.tree.claim(before)
        else:
            owner, kind = owner_of(account, parent), service.dialect.default_type
            node = service.tree.create(parent, path[-1], kind, owner, inherited(parent), incoming=True)
    try:
        _fetch(service, parent, node, protocol.endpoint or "")
    except BaseException:
        service.tree.give_up(node)
        raise


def _fetch(service: Service, parent: Node, node: Node, url: str) -> None:
    part = service.tree.contents / f"{uuid.uuid4().hex}.part"
    digest, length = hashlib.md5(usedforsecurity=False), 0
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer, part.open("wb") as file:  # noqa: S310
            while block := answer.read(_BLOCK):
                digest.update(block)
                length += len(block)
                file.write(block)
        service.check_quota(parent, length - (node.length or 0))
        kept = {uri: value for uri, value in node.properties.items() if uri in names.ACCESS}
        service.tree.publish(node, part, length, digest.hexdigest(), names.BINARY_VIEW, kept)
    finally:
        part.unlink(missing_ok=True)


def _push(service: Service, job: Job, path: tuple[str, ...], protocol: Protocol) -> None:
    node = service.find(path, follow=True)
    service.check_read(job.origin.account, node)
    if node.busy:
        raise Fault("NodeBusy", service.uri(path))
    content = service.tree.content_path(node)
    body = content.read_bytes() if content is not None else b""
    request = urllib.request.Request(protocol.endpoint or "", data=body, method="PUT")  # noqa: S310
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310
        return
