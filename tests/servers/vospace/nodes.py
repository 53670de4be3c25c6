"""The ``nodes`` resource: createNode, getNode, setNode, deleteNode (5.2.1, 5.2.4, 5.3)."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET

from tests.servers.vospace import names
from tests.servers.vospace.config import Account
from tests.servers.vospace.documents import (
    NodeDocument,
    add,
    add_views,
    parse_node,
    root_name,
    serialise,
    vospace_root,
    vospace_time,
)
from tests.servers.vospace.faults import Fault
from tests.servers.vospace.metadata import protocol_lists
from tests.servers.vospace.request import Request, Response, xml
from tests.servers.vospace.service import Service
from tests.servers.vospace.tree import Node

_DETAILS = ("min", "max", "properties")
_ALIASES = {names.IS_PUBLIC: names.PUBLIC_READ}


def answer(service: Service, request: Request) -> Response:
    """Do what the method says to the node at the path after ``nodes``."""
    path = request.path[1:]
    if request.method == "GET":
        return _get(service, request, path)
    if request.method == "PUT":
        return _create(service, request, path)
    if request.method == "POST":
        return _set(service, request, path)
    if request.method == "DELETE":
        return _delete(service, request, path)
    raise Fault("OperationNotSupported", request.method, status=405)


# getNode


def _get(service: Service, request: Request, path: tuple[str, ...]) -> Response:
    detail = request.parameters.get("detail", "max")
    if detail not in _DETAILS:
        raise Fault("InvalidArgument", f"detail={detail}")
    node = service.find(path)
    service.check_read(request.account, node)
    children = _page(service, request, node) if node.is_container else []
    return xml(serialise(node_element(service, request.account, node, detail, children)))


def _page(service: Service, request: Request, node: Node) -> list[Node]:
    """The children asked for with ``uri`` (the first of them) and ``limit``."""
    text, start = request.parameters.get("limit"), request.parameters.get("uri")
    if text is not None and not (text.isascii() and text.isdigit()):
        raise Fault("InvalidArgument", f"limit={text}")
    limit = -1 if text is None else int(text)
    most = service.dialect.page_limit
    if most and (limit < 0 or limit > most):
        limit = most
    name = None
    if start:
        first = service.parse_uri(start)
        if not first or first[:-1] != service.tree.path(node):
            raise Fault("InvalidURI", f"{start} is no child of {service.uri(service.tree.path(node))}")
        name = first[-1]
    return service.tree.children(node, order=service.dialect.list_order, start=name, limit=limit)


def node_element(
    service: Service, account: Account | None, node: Node, detail: str, children: list[Node] | None = None
) -> ET.Element:
    """A node as a document: ``min``, ``properties`` or ``max``."""
    path = service.tree.path(node)
    root = vospace_root("node", service.namespace, uri=service.uri(path))
    _fill(service, account, root, node, detail)
    if node.is_container:
        listed = add(root, "nodes")
        for child in children or []:
            element = add(listed, "node", uri=service.uri((*path, child.name)))
            # What somebody may not read is listed, and no more said about it.
            is_open = service.may_read_alone(account, child) and not service.dialect.bare_children
            _fill(service, account, element, child, detail if is_open else "min")
            if child.is_container:
                add(element, "nodes")
    return root


def _fill(service: Service, account: Account | None, element: ET.Element, node: Node, detail: str) -> None:
    element.set("xsi:type", f"vos:{node.type}")
    if detail != "min":
        properties = add(element, "properties")
        for uri, value in shown_properties(service, node).items():
            add(properties, "property", value, uri=uri, readOnly="true" if uri in names.READ_ONLY else "false")
    if node.is_link:
        add(element, "target", node.target)  # the schema demands it at any detail
        return
    if detail != "max":
        return
    if node.is_data:
        element.set("busy", "true" if node.busy and service.dialect.busy else "false")
    add_views(element, "accepts", accepted_views(node))
    add_views(element, "provides", provided_views(node))
    add(element, "capabilities")


def accepted_views(node: Node) -> list[str]:
    return [names.ANY_VIEW, names.BINARY_VIEW] if node.is_data else []


def provided_views(node: Node) -> list[str]:
    if not node.is_data:
        return []
    imported = [node.view] if node.view and node.view != names.BINARY_VIEW else []
    return [names.DEFAULT_VIEW, names.BINARY_VIEW, *imported]


def shown_properties(service: Service, node: Node) -> dict[str, str]:
    """All properties of a node: those stored, and those that the service keeps itself."""
    shown = {uri: value for uri, value in node.properties.items() if value or uri not in names.ACCESS}
    if names.PUBLIC_READ in shown:
        shown[names.IS_PUBLIC] = shown[names.PUBLIC_READ]
    owner = service.account(node.owner)
    shown[names.CREATOR] = (owner.distinguished_name if owner is not None else "") or node.owner
    times = {
        names.DATE: node.modified,
        names.MTIME: node.modified,
        names.CTIME: node.changed,
        names.BTIME: node.created,
    }
    for uri, seconds in times.items():
        shown[uri] = vospace_time(seconds).partition("." if service.dialect.whole_seconds else "\n")[0]
    if node.is_data:
        shown[names.LENGTH] = str(node.length or 0)
        if node.md5 and service.dialect.digests:
            shown[names.MD5] = node.md5
    if node.quota is not None:
        shown[names.QUOTA] = str(node.quota)
    if node.is_container:
        room = service.quota_room(node)
        if room is not None:
            shown[names.AVAILABLE_SPACE] = str(room)
    return shown


# createNode


def _create(service: Service, request: Request, path: tuple[str, ...]) -> Response:
    document = parse_node(request.document(), service.namespace)
    if service.parse_uri(document.uri) != path:
        raise Fault("InvalidURI", f"{document.uri} is not the node of this URL")
    wanted = document.type or "Node"
    if wanted not in names.NODE_TYPES or wanted in service.dialect.unsupported_types:
        raise Fault("TypeNotSupported", f"vos:{wanted}")
    if wanted == "LinkNode" and not document.target:
        raise Fault("InvalidArgument", "a link without target")
    if not path:
        raise Fault("DuplicateNode", document.uri)
    parent = service.container(path)
    refused = names.READ_ONLY & document.properties.keys()
    if refused:
        raise Fault("PermissionDenied", f"read-only properties: {sorted(refused)}")
    service.check_write(request.account, parent)
    node = service.tree.create(
        parent,
        free_name(service, parent, path[-1]),
        "UnstructuredDataNode" if wanted == "Node" else wanted,
        owner_of(request.account, parent),
        {**inherited(parent), **_checked(document)},
        target=document.target if wanted == "LinkNode" else None,
    )
    return xml(serialise(node_element(service, request.account, node, "max")), status=service.dialect.create_status)


def free_name(service: Service, parent: Node, name: str) -> str:
    """The name, or a new one for ``.auto`` (3.1)."""
    if name == ".null":
        raise Fault("InvalidURI", "the name .null is reserved")
    return uuid.uuid4().hex if name == ".auto" else name


def owner_of(account: Account | None, parent: Node) -> str:
    """Who owns a new node: who made it, or the owner of its container."""
    return account.name if account is not None else parent.owner


def inherited(parent: Node) -> dict[str, str]:
    """What a new node takes from its container."""
    return {uri: value for uri, value in parent.properties.items() if uri in names.ACCESS}


def _checked(document: NodeDocument) -> dict[str, str]:
    """The properties to set, under their standard names, with values that can be."""
    checked: dict[str, str] = {}
    for uri, value in document.properties.items():
        if value is None:
            continue
        uri = _ALIASES.get(uri, uri)
        if uri == names.PUBLIC_READ and value not in ("true", "false", ""):
            raise Fault("InvalidArgument", f"{uri}: {value} is neither true nor false")
        if uri in (names.GROUP_READ, names.GROUP_WRITE):
            bad = [group for group in value.replace(",", " ").split() if not group.startswith("ivo://")]
            if bad:
                raise Fault("InvalidArgument", f"{uri}: {bad[0]} is no URI of a group")
        if not uri.partition(":")[2]:
            raise Fault("InvalidArgument", f"{uri} is no URI of a property")
        checked[uri] = value
    return checked


# setNode


def _set(service: Service, request: Request, path: tuple[str, ...]) -> Response:
    body = request.document()
    if root_name(body) in ("protocol", "protocols"):
        # 5.3.1: an empty protocol representation asks for the protocols of this node.
        service.check_read(request.account, service.find(path))
        return xml(protocol_lists(service))
    document = parse_node(body, service.namespace)
    if service.parse_uri(document.uri) != path:
        raise Fault("InvalidURI", f"{document.uri} is not the node of this URL")
    with service.tree.change():
        node = service.find(path)
        service.check_write(request.account, node)
        node = set_properties(service, node, document)
    return xml(serialise(node_element(service, request.account, node, "max")))


def set_properties(service: Service, node: Node, document: NodeDocument) -> Node:
    """The union of the old and the new ones; None deletes, an empty text is a value (5.3.2)."""
    if document.type is not None and not _same_kind(document.type, node.type):
        raise Fault("InvalidArgument", f"a {node.type} cannot become a {document.type}")
    before = shown_properties(service, node)
    for uri in names.READ_ONLY & document.properties.keys():
        # A client that sends a node back as it got it modifies nothing; times it may have cut or stale.
        if uri not in (names.DATE, names.MTIME, names.CTIME) and document.properties[uri] != before.get(uri):
            raise Fault("PermissionDenied", f"{uri} is read-only")
    new = {uri: value for uri, value in _checked(document).items() if uri not in names.READ_ONLY}
    gone = {_ALIASES.get(uri, uri) for uri, value in document.properties.items() if value is None}
    if names.PUBLIC_READ in document.properties and names.IS_PUBLIC in document.properties:
        new[names.PUBLIC_READ] = _later(node, document)
    kept = {uri: value for uri, value in {**node.properties, **new}.items() if uri not in gone}
    values: dict[str, object] = {"properties": kept}
    if node.is_link and document.target:
        values["target"] = document.target
    return service.tree.update(node, **values)


def _later(node: Node, document: NodeDocument) -> str:
    """Two names of one property were sent: the one that differs from what is stored is meant."""
    old = node.properties.get(names.PUBLIC_READ, "")
    sent = [document.properties[uri] or "" for uri in (names.PUBLIC_READ, names.IS_PUBLIC)]
    return next((value for value in sent if value != old), old)


def _same_kind(one: str, other: str) -> bool:
    data = {"Node", "DataNode", "UnstructuredDataNode", "StructuredDataNode"}
    return one == other or {one, other} <= data


# deleteNode


def _delete(service: Service, request: Request, path: tuple[str, ...]) -> Response:
    with service.tree.change():
        node = service.find(path)
        check_delete(service, request.account, node)
        if service.dialect.refuse_nonempty_delete and service.tree.children(node, limit=1):
            raise Fault("InvalidArgument", f"{service.uri(path)} is not empty")
        service.tree.remove(node)
    return Response(status=service.dialect.delete_status)


def check_delete(service: Service, account: Account | None, node: Node) -> None:
    """Whoever deletes a node must be able to write what it lies in, and every container below it."""
    chain = service.tree.chain(node)
    if len(chain) < 2:
        raise Fault("PermissionDenied", "the root of a space cannot be deleted")
    service.check_write(account, chain[-2])
    for each in service.tree.below(node):
        if each.is_container:
            service.check_write(account, each)
        if each.busy and service.dialect.busy:
            raise Fault("NodeBusy", service.uri(service.tree.path(each)))
