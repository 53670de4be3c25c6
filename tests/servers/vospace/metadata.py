"""What the service says about itself: getProtocols, getViews, getProperties (5.1), VOSI 1.1."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

from tests.servers.vospace import names
from tests.servers.vospace.documents import add, serialise, vospace_root
from tests.servers.vospace.faults import Fault
from tests.servers.vospace.request import Origin, Request, Response, xml
from tests.servers.vospace.service import Service


def answer(service: Service, request: Request) -> Response:
    """Answer ``protocols``, ``views``, ``properties``, ``capabilities`` or ``availability``."""
    if request.method != "GET" or len(request.path) != 1:
        raise Fault("OperationNotSupported", request.method, status=405)
    resource = request.path[0]
    if resource == "protocols":
        return xml(protocol_lists(service))
    if resource == "views":
        return xml(
            _lists(service, "view", [names.ANY_VIEW, names.BINARY_VIEW], [names.DEFAULT_VIEW, names.BINARY_VIEW])
        )
    if resource == "properties":
        return xml(_properties(service))
    if resource == "availability":
        return xml(_availability())
    if not service.dialect.capabilities:
        return Response(status=404)
    return xml(_capabilities(service, request.origin))


def offered_protocols(service: Service) -> list[str]:
    """The protocols that this service serves."""
    schemes = {"http", "https"} if service.config.https_port else {"http"}
    wanted = service.dialect.protocols or tuple(names.PROTOCOLS)
    offered = [uri for uri in names.PROTOCOLS if uri in wanted and names.PROTOCOLS[uri][1] in schemes]
    return [uri for uri in offered if service.dialect.push or names.PROTOCOLS[uri][0] == "GET"]


def protocol_lists(service: Service) -> bytes:
    # Accepting a protocol is acting as its client; ours speaks plain HTTP to other servers.
    return _lists(service, "protocol", [names.HTTP_GET, names.HTTP_PUT], offered_protocols(service))


def _lists(service: Service, kind: str, accepts: Iterable[str], provides: Iterable[str]) -> bytes:
    root = vospace_root(kind + "s", service.namespace)
    for tag, uris in (("accepts", accepts), ("provides", provides)):
        listed = add(root, tag)
        for uri in uris:
            add(listed, kind, uri=uri)
    return serialise(root)


def _properties(service: Service) -> bytes:
    root = vospace_root("properties", service.namespace)
    understood = sorted(names.ACCESS)
    for tag, uris in (
        ("accepts", understood),
        ("provides", sorted(names.READ_ONLY)),
        ("contains", sorted(names.READ_ONLY | service.tree.all_properties())),
    ):
        listed = add(root, tag)
        for uri in uris:
            add(listed, "property", uri=uri)
    return serialise(root)


def _availability() -> bytes:
    root = ET.Element("vosi:availability", {"xmlns:vosi": names.VOSI_AVAILABILITY})
    ET.SubElement(root, "vosi:available").text = "true"
    ET.SubElement(root, "vosi:note").text = "accepting requests"
    return serialise(root)


def _capabilities(service: Service, origin: Origin) -> bytes:
    """VOSI 1.1, section 2.1; one interface for each way to authenticate, as SSO 2.0 declares them."""
    root = ET.Element(
        "vosi:capabilities",
        {
            "xmlns:vosi": names.VOSI_CAPABILITIES,
            "xmlns:vs": names.VODATASERVICE,
            "xmlns:xsi": names.XSI,
        },
    )
    offered = dict(names.STANDARD_CAPABILITIES)
    if not service.dialect.sync_transfers:
        del offered["sync"], offered["synctrans"]
    if service.dialect.files:
        offered["files"] = names.FILES_CAPABILITY
    if service.dialect.recursive_jobs:
        offered |= names.RECURSIVE_CAPABILITIES
    for path, standard_id in offered.items():
        capability = ET.SubElement(root, "capability", {"standardID": standard_id})
        for scheme, method in _ways(path, origin):
            interface = ET.SubElement(
                capability, "interface", {"xsi:type": "vs:ParamHTTP", "role": "std", "version": "2.1"}
            )
            url = ET.SubElement(
                interface, "accessURL", {"use": "full" if path in ("capabilities", "availability") else "base"}
            )
            url.text = f"{origin.urls[scheme]}/{'synctrans' if path == 'sync' else path}"
            if method is not None:
                ET.SubElement(interface, "securityMethod", {"standardID": method})
    return serialise(root)


def _ways(path: str, origin: Origin) -> list[tuple[str, str | None]]:
    """Scheme and security method, None for anonymous; the scheme by which this caller came first."""
    if path in ("capabilities", "availability"):
        return [(origin.scheme, None)]
    ways: list[tuple[str, str | None]] = [(origin.scheme, method) for method in (None, names.BASIC, names.TOKEN)]
    if "https" in origin.urls:
        ways.append(("https", names.CERTIFICATE))
    return ways
