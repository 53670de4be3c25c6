"""What happens inside the space: moveNode, copyNode (5.2.2, 5.2.3), and CADC's recursive jobs."""

from __future__ import annotations

from collections.abc import Callable

from tests.servers.vospace.documents import NodeDocument, Transfer, parse_node
from tests.servers.vospace.faults import Fault
from tests.servers.vospace.jobs import Job, Jobs
from tests.servers.vospace.nodes import check_delete, free_name, owner_of, set_properties
from tests.servers.vospace.request import Request, Response, see_other
from tests.servers.vospace.service import Service
from tests.servers.vospace.tree import Node


def run_internal(service: Service, job: Job, transfer: Transfer) -> None:
    """Move or copy a node; the direction is the destination's URI."""
    if transfer.keep_bytes is None:
        raise Fault("InvalidArgument", f"direction {transfer.direction} without keepBytes")
    source_path = service.parse_uri(transfer.target)
    path = service.parse_uri(transfer.direction)
    account = job.origin.account
    with service.tree.change():
        source = service.find(source_path)
        if transfer.keep_bytes:
            if not service.dialect.copy:
                raise Fault("OperationNotSupported", "copyNode")
            for each in service.tree.below(source):
                service.check_read(account, each)
        else:
            check_delete(service, account, source)
        if path[-1:] == (".null",) and not transfer.keep_bytes:
            service.tree.remove(source)  # 5.2.4: the same as deleting
            return
        parent, name = _destination(service, job, source, path)
        service.check_write(account, parent)
        if transfer.keep_bytes:
            service.check_quota(parent, service.tree.used_bytes(source))
            service.tree.copy(source, parent, name, owner_of(account, parent))
        else:
            service.tree.move(source, parent, name)


def _destination(service: Service, job: Job, source: Node, path: tuple[str, ...]) -> tuple[Node, str]:
    """The container and the name that a node goes to."""
    if path[-1:] == (".auto",):
        parent = service.container(path)
        name = free_name(service, parent, ".auto")
        job.results["destination"] = service.uri((*path[:-1], name))
        return parent, name
    habit = service.dialect.move_destination
    existing = service.tree.find(()) if not path else service.tree.child(service.container(path), path[-1])
    if existing is not None and existing.is_container and habit != "full-path":
        return existing, source.name
    if existing is not None:
        raise Fault("DuplicateNode", service.uri(path))
    if habit == "container":
        raise Fault("InvalidArgument", f"{service.uri(path)} is no container")
    return service.container(path), path[-1]


# Not in the standard: jobs over all of a tree, as CADC's services offer them.


def create_recursive(service: Service, jobs: Jobs, request: Request) -> Response:
    """POST to ``async-delete`` (target=URI) or ``async-setprops`` (a node): a pending job."""
    if not service.dialect.recursive_jobs:
        return Response(status=404)
    if request.path[0] == "async-delete":
        target = request.form().get("target", "")
        path = service.parse_uri(target)

        def delete(job: Job) -> bool:
            _delete_what_may_be(service, job, service.find(path))
            return True

        return see_other(jobs.add(_recursive_job(request, delete, {"target": target})).url)
    document = parse_node(request.document(), service.namespace)

    def set_all(job: Job) -> bool:
        _set_what_may_be(service, job, document)
        return True

    return see_other(jobs.add(_recursive_job(request, set_all, {})).url)


def _recursive_job(request: Request, work: Callable[[Job], bool], parameters: dict[str, str]) -> Job:
    return Job(collection=request.path[0], origin=request.origin, work=work, parameters=parameters)


def _delete_what_may_be(service: Service, job: Job, top: Node) -> None:
    counts = {"successcount": 0, "errorcount": 0}
    for node in reversed(service.tree.below(top)):
        if job.phase == "ABORTED":
            break
        try:
            with service.tree.change():
                check_delete(service, job.origin.account, node)
                if service.tree.children(node, limit=1):
                    raise Fault("InvalidArgument", "something is left in it")
                service.tree.remove(node)
        except Fault:
            counts["errorcount"] += 1
        else:
            counts["successcount"] += 1
    _tell(job, counts)


def _set_what_may_be(service: Service, job: Job, document: NodeDocument) -> None:
    counts = {"successcount": 0, "errorcount": 0}
    wanted = NodeDocument(uri=document.uri, type=None, properties=document.properties, target=None)
    for node in service.tree.below(service.find(service.parse_uri(document.uri))):
        if job.phase == "ABORTED":
            break
        try:
            with service.tree.change():
                service.check_write(job.origin.account, node)
                set_properties(service, node, wanted)
        except Fault:
            counts["errorcount"] += 1
        else:
            counts["successcount"] += 1
    _tell(job, counts)


def _tell(job: Job, counts: dict[str, int]) -> None:
    job.results.update({name: f"final:{count}" for name, count in counts.items()})
