"""What a server is started with, and its dialect: the habits that services differ in."""

from __future__ import annotations

from typing import Literal

import msgspec


class Account(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One person.

    Attributes
    ----------
    name : str
        Also the user name of basic authentication.
    password, token : str
        Empty: this way in is closed.
    distinguished_name : str
        Subject of the X.509 certificate, in RFC 4514 form; empty for none.
    groups : tuple of str
        URIs of groups, as a group management service names them.
    """

    name: str
    password: str = ""
    token: str = ""
    distinguished_name: str = ""
    groups: tuple[str, ...] = ()


class Unavailable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Answers 503 in place of serving.

    Attributes
    ----------
    count : int
        So many requests, then no more.
    rate : float
        Besides, this share of all requests, drawn with ``seed``.
    retry_after_s : int or None
        The header Retry-After, in seconds; None leaves it away.
    endpoints : tuple of str
        First path segments that it is for ("nodes", "data"); empty for all.
    """

    count: int = 0
    rate: float = 0.0
    seed: int = 0
    retry_after_s: int | None = 0
    endpoints: tuple[str, ...] = ()


class Dialect(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How this service differs from the plain reading of the standard; every default is the plain reading.

    Attributes
    ----------
    namespace : {"v2.0", "v2.1"}
        Of all documents, sent and accepted.
    separator : {"!", "~"}
        In the authority of URIs sent; both are accepted.
    capabilities : bool
        Whether there is a VOSI capabilities document.
    files : bool
        The ``files`` endpoint of the CADC family.
    files_redirect : bool
        ``files`` answers 303 to a pre-authorised URL, as a service does whose bytes lie elsewhere.
    recursive_jobs : bool
        The endpoints ``async-delete`` and ``async-setprops`` of the CADC family.
    parameter_transfers : bool
        Negotiation by parameters in the URL (3.6.2, optional).
    sync_transfers : bool
        The ``synctrans`` endpoint; without it only jobs negotiate.
    details_under_xfer : bool
        ``synctrans`` redirects to ``xfer/ID`` in place of the job's ``results/transferDetails``.
    data_on_other_host : bool
        Endpoints of transfers lie on another host and port.
    redirect_endpoints : bool
        The endpoint of a transfer answers 307 to that other host, for PUT as for GET.
    preauthorised : bool
        An endpoint that was asked for without a security method needs no credentials.
    one_shot : bool
        An endpoint works once (3.6.4).
    dead_endpoints : int
        So many endpoints that nobody listens at come before each good one.
    protocols : tuple of str
        The protocols offered; empty for all.
    push : bool
        Whether pushToVoSpace is offered (optional in the standard).
    ranges, digests, conditional : bool
        Of the data endpoints: byte ranges; MD5 in property and Digest header; ETags with conditional requests.
    unknown_length : bool
        Data are sent in chunks, without Content-Length.
    page_limit : int
        Most children in one answer, whatever is asked for; 0 for no limit.
    list_order : {"name", "created"}
        Of children.
    bare_children : bool
        Children are listed without their properties, whatever detail is asked for.
    whole_seconds : bool
        Times have no fractions.
    resolve_links : bool
        Links to containers in a path are followed in place of a LinkFound fault.
    move_destination : {"standard", "full-path", "container"}
        Whether an existing container as destination means "into it", is a duplicate, or is the only one allowed.
    copy : bool
        Whether nodes can be copied.
    refuse_nonempty_delete : bool
        Deleting a container that has children is refused.
    delete_status : int
        Of a deletion that succeeded; the standard says 204 in the text and 200 in the example.
    create_status : int
        Of a creation that succeeded; 201, or 200 as the standard's example.
    default_type : str
        Of nodes that a transfer makes.
    busy : bool
        Nodes whose data come are busy; otherwise two may send at once, and who ends last wins.
    create_on_negotiation : bool
        A new node appears, empty, when the transfer is negotiated; otherwise with its first byte.
    keep_properties : bool
        New data leave the properties of a node as they are; the standard clears them.
    unsupported_types : tuple of str
        Refused with TypeNotSupported.
    quota_status : int
        HTTP status of QuotaExceeded; 413 or 507.
    challenge_anonymous : bool
        What anonymous callers may not do is answered with 401 and a challenge, not with 403.
    fault_details : bool
        Faults carry their details; otherwise the bare name.
    hold_jobs : bool
        Jobs stay queued until this is false again.
    prompt_jobs : bool
        PHASE=RUN is answered when the job has ended, or after a second: for clients that sleep between two looks.
    unavailable : Unavailable
        503 answers.
    """

    namespace: Literal["v2.0", "v2.1"] = "v2.0"
    separator: Literal["!", "~"] = "!"
    capabilities: bool = True
    files: bool = True
    files_redirect: bool = False
    recursive_jobs: bool = True
    parameter_transfers: bool = True
    sync_transfers: bool = True
    details_under_xfer: bool = False
    data_on_other_host: bool = False
    redirect_endpoints: bool = False
    preauthorised: bool = True
    one_shot: bool = False
    dead_endpoints: int = 0
    protocols: tuple[str, ...] = ()
    push: bool = True
    ranges: bool = True
    digests: bool = True
    conditional: bool = False
    unknown_length: bool = False
    page_limit: int = 0
    list_order: Literal["name", "created"] = "name"
    bare_children: bool = False
    whole_seconds: bool = False
    resolve_links: bool = False
    move_destination: Literal["standard", "full-path", "container"] = "standard"
    copy: bool = True
    refuse_nonempty_delete: bool = False
    delete_status: int = 204
    create_status: int = 201
    default_type: str = "DataNode"
    busy: bool = True
    create_on_negotiation: bool = False
    keep_properties: bool = False
    unsupported_types: tuple[str, ...] = ("StructuredDataNode",)
    quota_status: int = 413
    challenge_anonymous: bool = False
    fault_details: bool = True
    hold_jobs: bool = False
    prompt_jobs: bool = False
    unavailable: Unavailable = Unavailable()


class ServerConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """All that a server process is told.

    Attributes
    ----------
    directory : str
        The space: its database and the stored bytes.
    http_port, https_port, control_port : int
        On 127.0.0.1; ``https_port`` 0 for none.
    data_host, data_port, data_https_port : str, int, int
        Where data lie in the dialect `Dialect.data_on_other_host`.
    dead_port : int
        Bound, and never listened at.
    authority : str
        Authority of the space's URIs, written with "!".
    certificate, certificate_authority : str
        PEM files of the server's key and certificate, and of who signs the users'.
    root_owner : str
        Who owns the root node.
    root_public : bool
        Whether everybody may read it.
    accounts : tuple of Account
        The people.
    control_secret : str
        Must stand in the path of control requests.
    """

    directory: str
    http_port: int
    control_port: int
    control_secret: str
    https_port: int = 0
    data_host: str = "127.0.0.2"
    data_port: int = 0
    data_https_port: int = 0
    dead_port: int = 0
    authority: str = "pantry.test!vospace"
    certificate: str = ""
    certificate_authority: str = ""
    root_owner: str = "owner"
    root_public: bool = True
    accounts: tuple[Account, ...] = ()
    dialect: Dialect = Dialect()
