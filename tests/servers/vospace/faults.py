"""The faults of the standard, with the HTTP status of each."""

from __future__ import annotations

import re

STATUS = {
    # As the standard says (5.1 to 5.3).
    "InternalFault": 500,
    "PermissionDenied": 403,
    "InvalidURI": 400,
    "NodeNotFound": 404,
    "ContainerNotFound": 404,
    "DuplicateNode": 409,
    "LinkFound": 400,
    "TypeNotSupported": 400,
    "InvalidArgument": 400,
    # Named by the standard for jobs only; their status, where one is needed, is ours.
    "ViewNotSupported": 400,
    "ProtocolNotSupported": 400,
    "OperationNotSupported": 501,
    "InvalidData": 400,
    "NodeBusy": 409,
    "TransferFailed": 500,
    # Not in the standard: the name that services use, with the status of RFC 9110 for too much.
    "QuotaExceeded": 413,
    # SSO 2.0: credentials that prove nothing.
    "NotAuthenticated": 401,
}


class Fault(Exception):  # noqa: N818 - the standard's word
    """What a service answers in place of a result.

    Attributes
    ----------
    name : str
        One of `STATUS`; the first word of the answer's body.
    detail : str
        What section 5.5 asks for with this fault: the URI, or the reason.
    status : int
        HTTP status, where the fault is the answer to a request and not of a job.
    """

    def __init__(self, name: str, detail: str = "", *, status: int = 0) -> None:
        super().__init__(f"{name} {detail}".strip())
        self.name = name
        self.detail = detail
        self.status = status or STATUS[name]

    @property
    def summary(self) -> str:
        """The words of the job's error summary: "Node Not Found"."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.name)

    def text(self, *, details: bool = True) -> str:
        """The fault's representation: its name, whitespace, details (section 5, notes)."""
        return str(self) if details else self.name
