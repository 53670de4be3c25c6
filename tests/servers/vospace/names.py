"""The identifiers of the standards: namespaces, properties, views, protocols, security methods, capabilities."""

from __future__ import annotations

# XML namespaces. VOSpace 2.1 keeps the namespace of 2.0 and marks its documents with version="2.1" (section 4);
# some services use a namespace of their own for 2.1, as the schema in the standard's repository does.
VOSPACE_NAMESPACES = {
    "v2.0": "http://www.ivoa.net/xml/VOSpace/v2.0",
    "v2.1": "http://www.ivoa.net/xml/VOSpace/v2.1",
}
UWS = "http://www.ivoa.net/xml/UWS/v1.0"
XLINK = "http://www.w3.org/1999/xlink"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
VOSI_CAPABILITIES = "http://www.ivoa.net/xml/VOSICapabilities/v1.0"
VOSI_AVAILABILITY = "http://www.ivoa.net/xml/VOSIAvailability/v1.0"
VODATASERVICE = "http://www.ivoa.net/xml/VODataService/v1.1"

CORE = "ivo://ivoa.net/vospace/core#"

# Standard properties (section 3.2.4, appendix C).
LENGTH = CORE + "length"
DATE = CORE + "date"
MTIME = CORE + "mtime"
CTIME = CORE + "ctime"
BTIME = CORE + "btime"
CREATOR = CORE + "creator"
QUOTA = CORE + "quota"
AVAILABLE_SPACE = CORE + "availableSpace"
GROUP_READ = CORE + "groupread"
GROUP_WRITE = CORE + "groupwrite"
PUBLIC_READ = CORE + "publicread"
TITLE = CORE + "title"
DESCRIPTION = CORE + "description"
TYPE = CORE + "type"
FORMAT = CORE + "format"
# Not in the standard's table, yet in its examples and in every service of the CADC family.
MD5 = CORE + "MD5"
IS_PUBLIC = CORE + "ispublic"

READ_ONLY = frozenset({LENGTH, DATE, MTIME, CTIME, BTIME, CREATOR, QUOTA, AVAILABLE_SPACE, MD5})
"""What the service alone says; a client that sets one is refused (5.2.1, 5.3.2)."""

ACCESS = frozenset({GROUP_READ, GROUP_WRITE, PUBLIC_READ})
"""Who may read and write; a new node takes them from its container."""

# Views (3.4.3).
ANY_VIEW = CORE + "anyview"
BINARY_VIEW = CORE + "binaryview"
DEFAULT_VIEW = CORE + "defaultview"

# Protocols (3.5.3): URI to (HTTP method, scheme).
HTTP_GET = CORE + "httpget"
HTTP_PUT = CORE + "httpput"
HTTPS_GET = CORE + "httpsget"
HTTPS_PUT = CORE + "httpsput"
PROTOCOLS = {
    HTTP_GET: ("GET", "http"),
    HTTP_PUT: ("PUT", "http"),
    HTTPS_GET: ("GET", "https"),
    HTTPS_PUT: ("PUT", "https"),
}

# Security methods (SSO 2.0, section 3).
BASIC = "ivo://ivoa.net/sso#BasicAA"
BASIC_OLD = "http://www.w3.org/Protocols/HTTP/1.0/spec/html#BasicAA"
TOKEN = "ivo://ivoa.net/sso#token"
CERTIFICATE = "ivo://ivoa.net/sso#tls-with-certificate"
SECURITY_METHODS = {"http": (BASIC, BASIC_OLD, TOKEN), "https": (BASIC, BASIC_OLD, TOKEN, CERTIFICATE)}
"""What each scheme can carry."""

DIRECTIONS = ("pushToVoSpace", "pullFromVoSpace", "pullToVoSpace", "pushFromVoSpace")
NODE_TYPES = ("Node", "DataNode", "UnstructuredDataNode", "StructuredDataNode", "ContainerNode", "LinkNode")

# Capabilities: path below the service to standard ID (section 4, VOSI 1.1).
STANDARD_CAPABILITIES = {
    "capabilities": "ivo://ivoa.net/std/VOSI#capabilities",
    "availability": "ivo://ivoa.net/std/VOSI#availability",
    "properties": "ivo://ivoa.net/std/VOSpace/v2.0#properties",
    "views": "ivo://ivoa.net/std/VOSpace/v2.0#views",
    "protocols": "ivo://ivoa.net/std/VOSpace/v2.0#protocols",
    "nodes": "ivo://ivoa.net/std/VOSpace/v2.0#nodes",
    "transfers": "ivo://ivoa.net/std/VOSpace/v2.0#transfers",
    "sync": "ivo://ivoa.net/std/VOSpace/v2.0#sync",
    "synctrans": "ivo://ivoa.net/std/VOSpace#sync-2.1",
}
FILES_CAPABILITY = "ivo://ivoa.net/std/VOSpace#files-proto"
RECURSIVE_CAPABILITIES = {
    "async-delete": "ivo://ivoa.net/std/VOSpace#recursive-delete-proto",
    "async-setprops": "ivo://ivoa.net/std/VOSpace#recursive-nodeprops-proto",
}
