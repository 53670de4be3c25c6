"""The bytes: endpoints of transfers, and the ``files`` resource."""

from __future__ import annotations

import base64
import binascii
import email.utils
import hashlib
import mimetypes
import re
import urllib.parse
import uuid

from tests.servers.vospace import names
from tests.servers.vospace.config import Account
from tests.servers.vospace.faults import Fault
from tests.servers.vospace.jobs import Jobs
from tests.servers.vospace.nodes import inherited, owner_of
from tests.servers.vospace.request import Request, Response, join_path
from tests.servers.vospace.service import Service
from tests.servers.vospace.tickets import Ticket, Tickets
from tests.servers.vospace.transfers import other_host, redirect_to_data
from tests.servers.vospace.tree import Node

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Data:
    """Gives and takes the bytes of nodes."""

    def __init__(self, service: Service, jobs: Jobs, tickets: Tickets) -> None:
        self._service = service
        self._jobs = jobs
        self._tickets = tickets

    def endpoint(self, request: Request) -> Response:
        """GET, HEAD or PUT of a URL that a transfer gave out: ``data/KEY/NAME``."""
        if len(request.path) != 3:
            return Response(status=404)
        if self._service.dialect.redirect_endpoints and not request.at_data_host:
            elsewhere = f"{other_host(self._service, request.origin.scheme)}{join_path(request.path)}"
            return Response(status=307, headers={"Location": elsewhere})
        one_shot = self._service.dialect.one_shot
        ticket = self._tickets.use(request.path[1], request.method, once=one_shot)
        account = ticket.account
        if ticket.security is not None or (account is None and not self._service.dialect.preauthorised):
            account = request.account
        if ticket.path[-1] == ".null":
            return self._null(request, ticket)
        if request.method == "PUT":
            response = self._take(request, ticket.path, account, ticket.view)
            self._finish(ticket)
            return response
        node = self._service.find(ticket.path, follow=True)
        self._service.check_read(account, node)
        response = self._give(request, node)
        if request.method == "GET":
            response.done = lambda: self._finish(ticket)
        return response

    def files(self, request: Request) -> Response:
        """The same by the node's path, with the caller's own rights; habits of the CADC family."""
        if not self._service.dialect.files:
            return Response(status=404)
        path = request.path[1:]
        if request.method == "PUT":
            return self._take(request, path, request.account, None)
        if request.method not in ("GET", "HEAD"):
            raise Fault("OperationNotSupported", request.method, status=405)
        node = self._service.find(path, follow=True)
        self._service.check_read(request.account, node)
        if not node.is_data:
            raise Fault("InvalidArgument", f"{self._service.uri(path)} has no data")
        if self._service.dialect.files_redirect and request.method == "GET":
            return redirect_to_data(self._service, self._tickets, request.origin, node)
        return self._give(request, node)

    def view_data(self, request: Request) -> Response:
        """``nodes/PATH?view=data``: deprecated in 2.1, and still there (5.4.3)."""
        node = self._service.find(request.path[1:], follow=True)
        self._service.check_read(request.account, node)
        if not node.is_data:
            raise Fault("ViewNotSupported", "data")
        return redirect_to_data(self._service, self._tickets, request.origin, node)

    def _finish(self, ticket: Ticket) -> None:
        if ticket.job is not None:
            self._jobs.finish(ticket.job)

    def _null(self, request: Request, ticket: Ticket) -> Response:
        """The bit bucket (3.1)."""
        for _ in request.blocks():
            pass
        self._finish(ticket)
        return Response(status=201 if request.method == "PUT" else 200)

    # Giving

    def _give(self, request: Request, node: Node) -> Response:
        """The node's bytes, with the file open: whoever replaces them takes nothing from who reads."""
        while True:
            response, span = self._describe(request, node)
            content = self._service.tree.content_path(node)
            if span is None or content is None:
                return response
            try:
                response.file = (content.open("rb"), *span)
            except FileNotFoundError:  # replaced meanwhile
                fresh = self._service.tree.get(node.id)
                if fresh is None:
                    raise Fault("NodeNotFound", node.name) from None
                node = fresh
            else:
                return response

    def _describe(self, request: Request, node: Node) -> tuple[Response, tuple[int, int] | None]:
        """Status and headers, and which bytes follow; None for none."""
        dialect = self._service.dialect
        if node.busy and dialect.busy:
            raise Fault("NodeBusy", self._service.uri(self._service.tree.path(node)))
        size = node.length or 0
        quoted = urllib.parse.quote(node.name)
        headers = {
            "Content-Type": mimetypes.guess_type(node.name)[0] or "application/octet-stream",
            "Content-Disposition": f"inline; filename*=UTF-8''{quoted}",
            "Last-Modified": email.utils.formatdate(node.modified, usegmt=True),
        }
        if dialect.digests and node.md5:
            headers["Digest"] = "md5=" + base64.b64encode(bytes.fromhex(node.md5)).decode()
        if dialect.conditional:
            headers["ETag"] = _etag(node)
            if _matches(request.headers.get("If-None-Match"), node):
                return Response(status=304, headers={"ETag": _etag(node)}), None
            wanted = request.headers.get("If-Match")
            if wanted is not None and not _matches(wanted, node):
                return Response(status=412), None
        if not dialect.ranges:
            return Response(headers=headers, chunked=dialect.unknown_length), (0, size)
        headers["Accept-Ranges"] = "bytes"
        span = self._span(request, node, size)
        if span is None:
            return Response(headers=headers, chunked=dialect.unknown_length), (0, size)
        if not span:
            return Response(status=416, headers={"Content-Range": f"bytes */{size}"}), None
        headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
        return Response(status=206, headers=headers, chunked=dialect.unknown_length), span

    def _span(self, request: Request, node: Node, size: int) -> tuple[int, int] | tuple[()] | None:
        """The range asked for: None for all, empty if it cannot be had (RFC 9110, section 14)."""
        match = _RANGE.fullmatch((request.headers.get("Range") or "").strip())
        if match is None or match[0] == "bytes=-" or request.method == "HEAD":
            return None
        condition = request.headers.get("If-Range")
        if condition is not None and not (self._service.dialect.conditional and condition == _etag(node)):
            return None
        if match[1]:
            start, stop = int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)
            if match[2] and int(match[2]) < start:
                return None
        else:
            start, stop = max(0, size - int(match[2])), size
        return (start, stop) if start < stop else ()

    # Taking

    def _take(self, request: Request, path: tuple[str, ...], account: Account | None, view: str | None) -> Response:
        service = self._service
        with service.tree.change():
            parent = service.container(path)
            before = service.tree.child(parent, path[-1])
            service.check_write(account, before if before is not None else parent)
            if before is not None and not before.is_data:
                raise Fault("InvalidArgument", f"{service.uri(path)} takes no data")
            if service.dialect.conditional and not _allows(request, before):
                return Response(status=412)
            old_bytes = (before.length or 0) if before is not None else 0
            service.check_quota(parent, (request.length or 0) - old_bytes)
            if before is not None:
                node = service.tree.claim(before, alone=service.dialect.busy)
            else:
                owner, properties = owner_of(account, parent), inherited(parent)
                node = service.tree.create(
                    parent, path[-1], service.dialect.default_type, owner, properties, incoming=True
                )
        try:
            fresh = self._receive(request, parent, node, old_bytes, view)
        except BaseException:
            service.tree.give_up(node)
            raise
        headers = {}
        if service.dialect.digests and fresh.md5:
            headers["Digest"] = "md5=" + base64.b64encode(bytes.fromhex(fresh.md5)).decode()
        if service.dialect.conditional:
            headers["ETag"] = _etag(fresh)
        return Response(status=201 if before is None else 200, headers=headers)

    def _receive(self, request: Request, parent: Node, node: Node, old_bytes: int, view: str | None) -> Node:
        """Store the body: all of it with the digest that was promised, or nothing."""
        service = self._service
        part = service.tree.contents / f"{uuid.uuid4().hex}.part"
        digest, length = hashlib.md5(usedforsecurity=False), 0
        room = service.quota_room(parent)
        try:
            with part.open("wb") as file:
                for block in request.blocks():
                    digest.update(block)
                    length += len(block)
                    if room is not None and length > room + old_bytes:
                        service.check_quota(parent, length - old_bytes)
                    file.write(block)
            if request.length is not None and length != request.length:
                raise Fault("InvalidData", f"{length} bytes came of {request.length}")
            promised = _promised_md5(request)
            if promised is not None and promised != digest.digest():
                raise Fault("InvalidData", "the MD5 of the data is not that of the Digest header", status=412)
            kept = node.properties
            if not service.dialect.keep_properties:
                # 5.4.1: "the Node properties SHALL be cleared"; who may read and write it is no part of the data.
                kept = {uri: value for uri, value in kept.items() if uri in names.ACCESS}
            return service.tree.publish(node, part, length, digest.hexdigest(), view or names.BINARY_VIEW, kept)
        finally:
            part.unlink(missing_ok=True)


def _promised_md5(request: Request) -> bytes | None:
    header = request.headers.get("Digest") or ""
    text = header[4:] if header.lower().startswith("md5=") else request.headers.get("Content-MD5")
    if not text:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Fault("InvalidArgument", "the digest is not base64") from None


def _etag(node: Node) -> str:
    return f'"{node.content or "empty"}"'


def _matches(header: str | None, node: Node) -> bool:
    if header is None:
        return False
    return header.strip() == "*" or _etag(node) in [each.strip() for each in header.split(",")]


def _allows(request: Request, before: Node | None) -> bool:
    """If-Match and If-None-Match of a PUT (RFC 9110, section 13.1)."""
    wanted, unwanted = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    if wanted is not None and (before is None or not _matches(wanted, before)):
        return False
    return not (unwanted is not None and before is not None and _matches(unwanted, before))
