"""Negotiating transfers: ``transfers`` and ``synctrans`` (3.6, 5.4)."""

from __future__ import annotations

import dataclasses
import urllib.parse

from tests.servers.vospace import names
from tests.servers.vospace.documents import Protocol, Transfer, parse_transfer, transfer_element
from tests.servers.vospace.faults import Fault
from tests.servers.vospace.internal import run_internal
from tests.servers.vospace.jobs import Job, Jobs, transfer_details
from tests.servers.vospace.metadata import offered_protocols
from tests.servers.vospace.nodes import free_name, inherited, owner_of, provided_views
from tests.servers.vospace.outside import run_outside
from tests.servers.vospace.request import DATA_ROOT, Origin, Request, Response, see_other
from tests.servers.vospace.service import Service
from tests.servers.vospace.tickets import Tickets
from tests.servers.vospace.tree import Node

_IMPORTS = ("pushToVoSpace", "pullToVoSpace")


class Transfers:
    """Makes the jobs of transfers, and the endpoints of those that are negotiated."""

    def __init__(self, service: Service, jobs: Jobs, tickets: Tickets) -> None:
        self._service = service
        self._jobs = jobs
        self._tickets = tickets

    # Making jobs

    def create(self, request: Request) -> Response:
        """POST to ``transfers``: a pending job, or a running one with PHASE=RUN in the URL."""
        transfer = parse_transfer(request.document(), self._service.namespace)
        job = self._job(transfer, request.origin, request.parameters.get("runid"))
        if request.parameters.get("phase", "").upper() == "RUN":
            self._jobs.run(job)
        return see_other(job.url)

    def synchronous(self, request: Request) -> Response:
        """POST of a document to ``synctrans``, or parameters by GET or POST (3.6.2)."""
        if not self._service.dialect.sync_transfers:
            return Response(status=404)
        if "target" in request.parameters or request.method == "GET" or request.is_form:
            return self._by_parameters(request)
        job = self._job(parse_transfer(request.document(), self._service.namespace), request.origin)
        self._jobs.run_here(job)
        if self._service.dialect.details_under_xfer:
            return see_other(f"{request.origin.url}/xfer/{job.id}")
        return see_other(f"{job.url}/results/transferDetails")

    def details(self, request: Request) -> Response:
        """``xfer/ID`` of the dialect `Dialect.details_under_xfer`."""
        job = self._jobs.find(request.path[-1], "transfers")
        return transfer_details(self._service, job)

    def _by_parameters(self, request: Request) -> Response:
        if not self._service.dialect.parameter_transfers:
            raise Fault("OperationNotSupported", "transfers by parameters")
        form = request.form()
        missing = [name for name in ("target", "direction", "protocol") if not form.get(name)]
        if missing:
            raise Fault("InvalidArgument", f"missing parameters: {missing}")
        if form["direction"] not in ("pushToVoSpace", "pullFromVoSpace"):
            raise Fault("InvalidArgument", f"DIRECTION={form['direction']} by parameters")
        protocol = Protocol(uri=form["protocol"], security=form.get("securitymethod"))
        transfer = Transfer(
            target=form["target"], direction=form["direction"], view=form.get("view"), protocols=[protocol]
        )
        job = self._job(transfer, request.origin)
        self._jobs.run_here(job)
        is_redirect = form.get("request", "").lower() == "redirect" and transfer.direction == "pullFromVoSpace"
        if is_redirect and job.fault is not None:
            raise job.fault  # "the error information is returned directly in the response body"
        if is_redirect and job.negotiated is not None:
            return see_other(job.negotiated.protocols[-1].endpoint or "")
        return transfer_details(self._service, job)

    def _job(self, transfer: Transfer, origin: Origin, run_id: str | None = None) -> Job:
        def work(job: Job) -> bool:
            if transfer.direction in ("pushToVoSpace", "pullFromVoSpace"):
                job.negotiated = self._negotiate(job, transfer)
                job.results["transferDetails"] = f"{job.url}/results/transferDetails"
                job.results["dataNode"] = job.negotiated.target
                return False  # until the data have come or gone
            if transfer.direction in names.DIRECTIONS:
                self._check_view(transfer, None)
                run_outside(self._service, job, transfer)
            else:
                run_internal(self._service, job, transfer)
            return True

        info = transfer_element(transfer, self._service.namespace)
        return self._jobs.add(
            Job(collection="transfers", origin=origin, work=work, info=info, transfer=transfer, run_id=run_id)
        )

    # Negotiating

    def _negotiate(self, job: Job, transfer: Transfer) -> Transfer:
        """Fill in endpoints for those of the protocols that can be had (3.6.4)."""
        service, account = self._service, job.origin.account
        path = service.parse_uri(transfer.target)
        is_push = transfer.direction == "pushToVoSpace"
        if is_push and not service.dialect.push:
            raise Fault("OperationNotSupported", "pushToVoSpace")
        if is_push:
            path = self._prepare_push(path, transfer, job)
        elif path[-1:] != (".null",):
            node = service.find(path, follow=True)
            service.check_read(account, node)
            self._check_readable(node, transfer)
        method = "PUT" if is_push else "GET"
        protocols = [
            each for wanted in transfer.protocols for each in self._offers(job, wanted, method, path, transfer)
        ]
        if not protocols:
            asked = ", ".join(each.uri for each in transfer.protocols) or "no protocol"
            raise Fault("ProtocolNotSupported", asked)
        return dataclasses.replace(transfer, target=service.uri(path), protocols=protocols)

    def _prepare_push(self, path: tuple[str, ...], transfer: Transfer, job: Job) -> tuple[str, ...]:
        service, account = self._service, job.origin.account
        self._check_view(transfer, None)
        if path[-1:] == (".null",):
            return path
        parent = service.container(path)
        if path[-1] == ".auto":
            path = (*path[:-1], free_name(service, parent, ".auto"))
            job.results["target"] = service.uri(path)
        node = service.tree.child(parent, path[-1])
        if node is not None and node.is_link:
            path = service.tree.path(service.find(path, follow=True))
            node, parent = service.find(path), service.container(path)
        service.check_write(account, node if node is not None else parent)
        if node is not None and not node.is_data:
            raise Fault("ViewNotSupported", "no archive format is unpacked into a container here")
        if node is not None and node.busy and service.dialect.busy:
            raise Fault("NodeBusy", service.uri(path))
        length = transfer.params.get(names.LENGTH, "0")
        if not length.isdigit():
            raise Fault("InvalidArgument", f"{names.LENGTH}={length}")
        service.check_quota(parent, int(length) - ((node.length or 0) if node is not None else 0))
        if node is None and service.dialect.create_on_negotiation:
            service.tree.create(
                parent, path[-1], service.dialect.default_type, owner_of(account, parent), inherited(parent)
            )
        return path

    def _check_readable(self, node: Node, transfer: Transfer) -> None:
        if not node.is_data:
            raise Fault("ViewNotSupported", "no archive format of a container is made here")
        if node.busy and self._service.dialect.busy:
            raise Fault("NodeBusy", node.name)
        self._check_view(transfer, node)

    def _check_view(self, transfer: Transfer, node: Node | None) -> None:
        """Whether the view can be imported, or exported from this node (3.4.3)."""
        view = transfer.view
        if view is None:
            return
        if transfer.direction in _IMPORTS and view == names.DEFAULT_VIEW:
            raise Fault("ViewNotSupported", view)
        if transfer.direction not in _IMPORTS and (
            view == names.ANY_VIEW or (node is not None and view not in provided_views(node))
        ):
            raise Fault("ViewNotSupported", view)

    def _offers(
        self, job: Job, wanted: Protocol, method: str, path: tuple[str, ...], transfer: Transfer
    ) -> list[Protocol]:
        """Endpoints for one of the protocols asked for; none if it cannot be served."""
        service, dialect = self._service, self._service.dialect
        if wanted.uri not in offered_protocols(service) or names.PROTOCOLS[wanted.uri][0] != method:
            return []
        scheme = names.PROTOCOLS[wanted.uri][1]
        if wanted.security is not None and wanted.security not in names.SECURITY_METHODS[scheme]:
            return []
        ticket = self._tickets.issue(
            path,
            method,
            job.origin.account if wanted.security is None and dialect.preauthorised else None,
            security=wanted.security,
            job=job,
            view=transfer.view,
        )
        suffix = f"data/{ticket.key}/{urllib.parse.quote(path[-1], safe='')}"
        dead = f"{scheme}://127.0.0.1:{service.config.dead_port}/{suffix}"
        endpoints = [dead] * dialect.dead_endpoints + [f"{data_url(service, job.origin, scheme)}/{suffix}"]
        return [Protocol(uri=wanted.uri, endpoint=each, security=wanted.security) for each in endpoints]


def data_url(service: Service, origin: Origin, scheme: str) -> str:
    """Where the data of this space are served."""
    return other_host(service, scheme) if service.dialect.data_on_other_host else origin.urls[scheme]


def other_host(service: Service, scheme: str) -> str:
    """Where nothing but data are served."""
    config = service.config
    port = config.data_https_port if scheme == "https" else config.data_port
    return f"{scheme}://{config.data_host}:{port}/{DATA_ROOT}"


def redirect_to_data(service: Service, tickets: Tickets, origin: Origin, node: Node) -> Response:
    """303 to a pre-authorised URL of a node that the caller may read."""
    path = service.tree.path(node)
    ticket = tickets.issue(path, "GET", origin.account)
    return see_other(
        f"{data_url(service, origin, origin.scheme)}/data/{ticket.key}/{urllib.parse.quote(path[-1], safe='')}"
    )
