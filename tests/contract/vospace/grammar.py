"""What the schemas VOSpace-2.1.xsd and UWS-1.1.xsd allow in the documents of a service, in a notation of ours.

A type is its required attributes, its optional ones, and its children in order: ``name:type`` with ``?``, ``*`` or
nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring

VOSPACE = ("http://www.ivoa.net/xml/VOSpace/v2.0", "http://www.ivoa.net/xml/VOSpace/v2.1")
UWS = "http://www.ivoa.net/xml/UWS/v1.0"
_XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
_XLINK = "{http://www.w3.org/1999/xlink}"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?"


class _Type(NamedTuple):
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    children: str = ""
    text: str | None = None
    """A pattern for its text, if it has text."""


_ANY = r"(?s).*"
_URI = r"[A-Za-z][A-Za-z0-9+.-]*:\S+"
_DATA = "properties:properties? accepts:views? provides:views? capabilities:empty?"
_NODE = ("version", _XSI + "type")
_VOSPACE_TYPES = {
    "Node": _Type(("uri",), _NODE, "properties:properties?"),
    "DataNode": _Type(("uri",), (*_NODE, "busy"), _DATA),
    "ContainerNode": _Type(("uri",), (*_NODE, "busy"), _DATA + " nodes:nodes"),
    "LinkNode": _Type(("uri",), _NODE, "properties:properties? target:uri"),
    "nodes": _Type(children="node:node*"),
    "properties": _Type((), ("version",), "property:property*"),
    "property": _Type(("uri",), ("readOnly", _XSI + "nil"), text=_ANY),
    "views": _Type((), ("version",), "view:view*"),
    "view": _Type(("uri",), ("original",), "param:param*"),
    "param": _Type(("uri",), text=_ANY),
    "empty": _Type(),
    "uri": _Type(text=_URI),
    "direction": _Type(text=_URI + "|pushToVoSpace|pullFromVoSpace|pullToVoSpace|pushFromVoSpace"),
    "boolean": _Type(text="true|false"),
    "security": _Type(("uri",)),
    "protocol": _Type(("uri",), (), "endpoint:uri? param:param* securityMethod:security*"),
    "transfer": _Type(
        (),
        ("version",),
        "target:uri direction:direction? view:view? protocol:protocol* keepBytes:boolean? param:param*",
    ),
    # The standard's text, not its schema, for what getProtocols, getViews and getProperties answer.
    "protocol lists": _Type((), ("version",), "accepts:protocols provides:protocols"),
    "view lists": _Type((), ("version",), "accepts:views provides:views"),
    "property lists": _Type((), ("version",), "accepts:names provides:names contains:names"),
    "protocols": _Type(children="protocol:protocol*"),
    "names": _Type(children="property:property*"),
}
_VOSPACE_TYPES["UnstructuredDataNode"] = _VOSPACE_TYPES["StructuredDataNode"] = _VOSPACE_TYPES["DataNode"]
_ROOTS = {"protocols": "protocol lists", "views": "view lists", "properties": "property lists"}

_NIL = (_XSI + "nil",)
_PHASE = "PENDING|QUEUED|EXECUTING|COMPLETED|ERROR|UNKNOWN|HELD|SUSPENDED|ABORTED|ARCHIVED"
_UWS_TYPES = {
    "job": _Type(
        (),
        ("version",),
        "jobId:string runId:string? ownerId:string phase:phase quote:time? creationTime:time startTime:time"
        " endTime:time executionDuration:integer destruction:time parameters:parameters? results:results"
        " errorSummary:error? jobInfo:info?",
    ),
    "jobs": _Type((), ("version",), "jobref:jobref*"),
    "jobref": _Type(
        ("id",), (_XLINK + "type", _XLINK + "href"), "phase:phase runId:string? ownerId:string? creationTime:time?"
    ),
    "string": _Type((), _NIL, text=_ANY),
    "phase": _Type(text=_PHASE),
    "time": _Type((), _NIL, text=_TIME + "|"),
    "integer": _Type(text=r"\d+"),
    "parameters": _Type(children="parameter:parameter*"),
    "parameter": _Type(("id",), ("byReference", "isPost"), text=_ANY),
    "results": _Type(children="result:result*"),
    "result": _Type(("id",), (_XLINK + "type", _XLINK + "href", "size", "mime-type")),
    "error": _Type(("type", "hasDetail"), (), "message:string"),
}


def check(document: bytes | str) -> str:
    """Raise AssertionError where a document is not as the schemas have it; returns the root's name."""
    root = fromstring(document, forbid_dtd=True)
    namespace, _, name = root.tag[1:].partition("}")
    if namespace in VOSPACE:
        _check(root, _ROOTS.get(name, name), namespace)
    elif namespace == UWS:
        _check(root, name, namespace)
    return name


def _check(element: Element, kind: str, namespace: str) -> None:
    where = f"{element.tag} as {kind}"
    types = _UWS_TYPES if namespace == UWS else _VOSPACE_TYPES
    if kind == "info":
        for child in element:
            inner, _, name = child.tag[1:].partition("}")
            _check(child, name, inner)
        return
    if kind == "node":
        prefix, _, kind = element.get(_XSI + "type", "").rpartition(":")
        assert prefix, f"{where}: xsi:type is missing or without prefix"
    assert kind in types, f"{where}: unknown"
    rule = types[kind]
    given = set(element.attrib)
    assert given >= set(rule.required), f"{where}: {set(rule.required) - given} missing"
    assert given <= {*rule.required, *rule.optional}, f"{where}: {given} not all allowed"
    if rule.text is None:
        assert not (element.text or "").strip(), f"{where}: has text"
    else:
        assert re.fullmatch(rule.text, element.text or ""), f"{where}: {element.text!r}"
    wanted = [(*each.rstrip("?*").partition(":"), each[-1]) for each in rule.children.split()]
    pattern = "".join(f"(?:{name} ){last if last in '?*' else ''}" for name, _, _, last in wanted)
    children = [child.tag.removeprefix(f"{{{namespace}}}") for child in element]
    assert re.fullmatch(pattern, "".join(f"{name} " for name in children)), f"{where}: {children} for {rule.children}"
    inside = {name: inner for name, _, inner, _ in wanted}
    for child, name in zip(element, children, strict=True):
        _check(child, inside[name], namespace)
