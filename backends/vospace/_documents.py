"""Documents of VOSpace 2.1 and UWS 1.1: written in the namespace that the service uses, read in any.

What comes is hostile until checked: parsed by defusedxml, of bounded size, looked at by local names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from xml.etree import ElementTree as ET

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pantry.errors import BackendError

DEFAULT_NAMESPACE = "http://www.ivoa.net/xml/VOSpace/v2.0"
"""VOSpace 2.1, section 4: documents of 2.1 keep the namespace of 2.0; some services have one of their own."""

XSI = "http://www.w3.org/2001/XMLSchema-instance"
CORE = "ivo://ivoa.net/vospace/core#"
LENGTH, DATE, MTIME, MD5 = CORE + "length", CORE + "date", CORE + "mtime", CORE + "MD5"
WRITE_PROPERTY = "ivo://pantry/vospace#write"
"""The property in which a node carries what wrote it, until that is committed."""

PUSH, PULL = "pushToVoSpace", "pullFromVoSpace"
PROTOCOLS = {PUSH: (CORE + "httpsput", CORE + "httpput"), PULL: (CORE + "httpsget", CORE + "httpget")}
VIEW = CORE + "binaryview"


class Child(NamedTuple):
    """A node as its container lists it, or by itself."""

    name: str
    kind: str
    properties: dict[str, str]
    target: str
    busy: bool


class Node(NamedTuple):
    """A node and what it lists."""

    itself: Child
    children: list[Child]
    namespace: str


class Endpoint(NamedTuple):
    """Where data are to be sent to, or fetched from."""

    url: str
    protocol: str
    security: str


def parse(body: bytes, what: str) -> ET.Element:
    """Parse an XML document of a service; `BackendError` if it is none, or could do harm."""
    try:
        return fromstring(body, forbid_dtd=True)  # type: ignore[no-any-return]
    except (ET.ParseError, DefusedXmlException, ValueError, LookupError) as exc:
        raise BackendError(
            f"the VOSpace service answered {what} with no acceptable XML: {type(exc).__name__}",
            hint="Check that endpoint_url is that of a VOSpace 2 service.",
        ) from None


def local(element: ET.Element) -> str:
    """Name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def _below(element: ET.Element, name: str) -> Iterator[ET.Element]:
    return (one for one in element if local(one) == name)


def _first(element: ET.Element, *path: str) -> ET.Element | None:
    found: ET.Element | None = element
    for name in path:
        found = next(_below(found, name), None) if found is not None else None
    return found


def _text(element: ET.Element | None) -> str:
    return (element.text or "").strip() if element is not None else ""


# -- nodes ------------------------------------------------------------------------------------------


def read_node(body: bytes, what: str) -> Node:
    """Read the description of a node."""
    root = parse(body, what)
    if local(root) != "node":
        raise BackendError(f"the VOSpace service answered {what} with a {local(root)!r}, not a node")
    listed = _first(root, "nodes")
    children = [_child(one) for one in _below(listed, "node")] if listed is not None else []
    return Node(_child(root), children, root.tag[1:].partition("}")[0] if root.tag.startswith("{") else "")


def _child(element: ET.Element) -> Child:
    listed = _first(element, "properties")
    nil = f"{{{XSI}}}nil"
    properties = {
        one.get("uri", ""): one.text or ""
        for one in (_below(listed, "property") if listed is not None else ())
        if one.get(nil) != "true"
    }
    kind = element.get(f"{{{XSI}}}type", "").rpartition(":")[2]
    return Child(
        element.get("uri", ""), kind, properties, _text(_first(element, "target")), element.get("busy") == "true"
    )


def write_node(namespace: str, uri: str, kind: str, properties: Mapping[str, str | None] = {}) -> bytes:
    """Write the description of a node; a property that is None is to be removed."""
    root = _root(namespace, "node", {"uri": uri, "xsi:type": f"vos:{kind}"})
    if kind != "ContainerNode":
        root.set("busy", "false")
    listed = ET.SubElement(root, "vos:properties")
    for name, value in properties.items():
        one = ET.SubElement(listed, "vos:property", {"uri": name, "readOnly": "false"})
        if value is None:
            one.set("xsi:nil", "true")
        else:
            one.text = value
    if kind == "ContainerNode":
        ET.SubElement(root, "vos:nodes")
    return _bytes(root)


# -- transfers --------------------------------------------------------------------------------------


def write_transfer(
    namespace: str, uri: str, direction: str, protocols: Iterable[tuple[str, str]], length: int | None = None
) -> bytes:
    """Write a transfer; ``protocols`` are pairs of a protocol and a security method, which may be empty."""
    root = _root(namespace, "transfer", {"version": "2.1"})
    for name, text in (("target", uri), ("direction", direction)):
        ET.SubElement(root, f"vos:{name}").text = text
    ET.SubElement(root, "vos:view", {"uri": VIEW})
    for protocol, method in protocols:
        one = ET.SubElement(root, "vos:protocol", {"uri": protocol})
        if method:
            ET.SubElement(one, "vos:securityMethod", {"uri": method})
    if length is not None:
        ET.SubElement(root, "vos:param", {"uri": LENGTH}).text = str(length)
    return _bytes(root)


def write_move(namespace: str, source: str, destination: str) -> bytes:
    """Write the transfer that moves a node."""
    root = _root(namespace, "transfer", {"version": "2.1"})
    for name, text in (("target", source), ("direction", destination), ("keepBytes", "false")):
        ET.SubElement(root, f"vos:{name}").text = text
    return _bytes(root)


def read_endpoints(body: bytes, wanted: Iterable[str]) -> list[Endpoint]:
    """Read the endpoints of the protocols ``wanted`` from a negotiated transfer, in the service's order."""
    root = parse(body, "a transfer")
    known = set(wanted)
    found = (
        Endpoint(_text(_first(one, "endpoint")), one.get("uri", ""), _security(one))
        for one in _below(root, "protocol")
        if one.get("uri") in known
    )
    return [one for one in found if one.url]


def _security(protocol: ET.Element) -> str:
    method = _first(protocol, "securityMethod")
    return method.get("uri", "") if method is not None else ""


# -- jobs and capabilities -----------------------------------------------------------------------------


def read_error(body: bytes) -> str:
    """Read what a job says went wrong: its summary's message, or the text itself."""
    if not body.lstrip().startswith(b"<"):
        return body.decode("utf-8", "replace").strip()
    root = parse(body, "an error")
    return _text(_first(root, "errorSummary", "message")) or " ".join("".join(root.itertext()).split())


class Resource(NamedTuple):
    """One interface of a service's capability."""

    standard_id: str
    url: str
    security: tuple[str, ...]


def read_capabilities(body: bytes) -> list[Resource]:
    """Read the resources of a VOSI capabilities document."""
    root = parse(body, "its capabilities")
    found = []
    for capability in _below(root, "capability"):
        for interface in _below(capability, "interface"):
            methods = tuple(one.get("standardID", "") for one in _below(interface, "securityMethod"))
            urls = [_text(one) for one in _below(interface, "accessURL")]
            found += [Resource(capability.get("standardID", ""), url, methods) for url in urls if url]
    return found


def _root(namespace: str, name: str, attributes: Mapping[str, str]) -> ET.Element:
    # Prefixes are written as they are: the value of xsi:type has one, and ElementTree's own are the whole process's.
    return ET.Element(f"vos:{name}", {"xmlns:vos": namespace, "xmlns:xsi": XSI, **attributes})


def _bytes(root: ET.Element) -> bytes:
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))
