"""XML in and out: nodes, transfers, jobs, by the schemas VOSpace-2.1.xsd and UWS-1.1.xsd."""

from __future__ import annotations

import datetime
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, field

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException
from tests.servers.vospace import names
from tests.servers.vospace.faults import Fault


@dataclass(kw_only=True)
class NodeDocument:
    """What a client sent as a node; a property of None is to be deleted."""

    uri: str
    type: str | None
    properties: dict[str, str | None]
    target: str | None


@dataclass(kw_only=True)
class Protocol:
    """One protocol of a transfer."""

    uri: str
    endpoint: str | None = None
    security: str | None = None


@dataclass(kw_only=True)
class Transfer:
    """A transfer, asked for or negotiated (3.6)."""

    target: str
    direction: str
    view: str | None = None
    protocols: list[Protocol] = field(default_factory=list)
    keep_bytes: bool | None = None
    params: dict[str, str] = field(default_factory=dict)


def root_name(body: bytes) -> str:
    """Local name of a document's root element."""
    return _parse(body).tag.rpartition("}")[2]


def _parse(body: bytes) -> ET.Element:
    try:
        element: ET.Element = defusedxml.ElementTree.fromstring(body, forbid_dtd=True)
    except (ET.ParseError, DefusedXmlException, ValueError) as exc:
        raise Fault("InvalidArgument", f"no XML document: {exc}") from None
    return element


def parse(body: bytes, root: str, namespace: str) -> ET.Element:
    """Parse a document whose root element must be ``root`` of ``namespace``."""
    element = _parse(body)
    if element.tag != f"{{{namespace}}}{root}":
        raise Fault("InvalidArgument", f"the document is {element.tag}, not {root} of {namespace}")
    return element


def parse_node(body: bytes, namespace: str) -> NodeDocument:
    element = parse(body, "node", namespace)
    ns = f"{{{namespace}}}"
    properties: dict[str, str | None] = {}
    for each in element.iterfind(f"{ns}properties/{ns}property"):
        uri = each.get("uri")
        if not uri:
            raise Fault("InvalidArgument", "a property without uri")
        is_nil = each.get(f"{{{names.XSI}}}nil", "false") in ("true", "1")
        properties[uri] = None if is_nil else (each.text or "")
    node_type = element.get(f"{{{names.XSI}}}type")
    uri = element.get("uri")
    if not uri:
        raise Fault("InvalidURI", "the node has no uri")
    return NodeDocument(
        uri=uri,
        type=node_type.rpartition(":")[2] if node_type else None,
        properties=properties,
        target=element.findtext(f"{ns}target"),
    )


def parse_transfer(body: bytes, namespace: str) -> Transfer:
    element = parse(body, "transfer", namespace)
    ns = f"{{{namespace}}}"
    view = element.find(f"{ns}view")
    keep = element.findtext(f"{ns}keepBytes")
    transfer = Transfer(
        target=(element.findtext(f"{ns}target") or "").strip(),
        direction=(element.findtext(f"{ns}direction") or "").strip(),
        view=view.get("uri") if view is not None else None,
        keep_bytes=None if keep is None else keep.strip() in ("true", "1"),
        params={each.get("uri", ""): (each.text or "").strip() for each in element.iterfind(f"{ns}param")},
    )
    for each in element.iterfind(f"{ns}protocol"):
        uri, endpoint = each.get("uri"), each.findtext(f"{ns}endpoint")
        if not uri:
            raise Fault("InvalidArgument", "a protocol without uri")
        methods = [method.get("uri") for method in each.iterfind(f"{ns}securityMethod")] or [None]
        transfer.protocols += [Protocol(uri=uri, endpoint=endpoint, security=method) for method in methods]
    return transfer


# Writing. Prefixes are written out, since a document's xsi:type names them.


def vospace_root(tag: str, namespace: str, **attributes: str) -> ET.Element:
    """A root element of a VOSpace document; those of the namespace v2.0 are marked as of 2.1 (section 4)."""
    version = {"version": "2.1"} if namespace == names.VOSPACE_NAMESPACES["v2.0"] else {}
    return ET.Element(f"vos:{tag}", {"xmlns:vos": namespace, "xmlns:xsi": names.XSI, **version, **attributes})


def add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, f"vos:{tag}", attributes)
    child.text = text
    return child


def add_views(parent: ET.Element, tag: str, views: Iterable[str]) -> None:
    listed = add(parent, tag)
    for view in views:
        add(listed, "view", uri=view)


def transfer_element(transfer: Transfer, namespace: str) -> ET.Element:
    root = vospace_root("transfer", namespace)
    add(root, "target", transfer.target)
    add(root, "direction", transfer.direction)
    if transfer.view is not None:
        add(root, "view", uri=transfer.view)
    for protocol in transfer.protocols:
        element = add(root, "protocol", uri=protocol.uri)
        if protocol.endpoint is not None:
            add(element, "endpoint", protocol.endpoint)
        if protocol.security is not None:
            add(element, "securityMethod", uri=protocol.security)
    if transfer.keep_bytes is not None:
        add(root, "keepBytes", "true" if transfer.keep_bytes else "false")
    for uri, value in transfer.params.items():
        add(root, "param", value, uri=uri)
    return root


def serialise(element: ET.Element) -> bytes:
    written: bytes = ET.tostring(element, encoding="UTF-8", xml_declaration=True)
    return written


def parse_time(text: str) -> float:
    """Seconds since 1970-01-01 UTC of an ISO 8601 time; without a zone it is UTC."""
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise Fault("InvalidArgument", f"{text} is no ISO 8601 time") from None
    return (when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp()


def vospace_time(seconds: float) -> str:
    """A time as the standard's examples write it: UTC, milliseconds, no zone."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]


def uws_time(seconds: float) -> str:
    """A time as UWS 1.1 asks for it: UTC, with its Z."""
    return vospace_time(seconds) + "Z"
