"""Configuration of web services that datasets are published to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_OWN_HEADERS = {"host", "content-length", "transfer-encoding", "connection", "content-type", "idempotency-key"}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MIB = 1024 * 1024


class PublishConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A web service that datasets can be published to; users call it by its name.

    Attributes
    ----------
    url : str
        ``http(s)://host[:port]/path``, in which path and query have places such as ``{id}``.
    method : str
        ``POST``, ``PUT`` or ``PATCH``.
    headers : dict
        Further headers; no secrets.
    credential_file, credential_variable : str
        Where the credential is: a file, read again for each request, or a variable of the daemon's environment.
    credential_header, credential_form : str
        The header that carries it, and how it is written there.
    dataset_types : tuple of str
        Names or patterns of what may be published there.
    repositories : tuple of str
        Names or patterns of the repositories from which; none for all.
    publishers : tuple of str
        Who may publish there, of those who may read a dataset; none for those who may write to its repository.
    automatic : bool
        Publish every dataset of these types that is put.
    form : str
        ``document``: JSON that ``body`` describes. ``file``: the dataset's file as it is.
    content_type : str
        Of the body.
    rows, row, rows_per_request
        Where in the content there is a list, what is made of each element, and how many go into one request.
    body : document
        What is sent; empty for a description of the dataset with its content.
    answer : dict
        What an answer must say, by path, so that it means success.
    accepted : tuple of int
        Statuses that mean success besides 200 to 299.
    undo : bool
        Of what was accepted while a put that waited for it failed: remove it by DELETE of the same URL.
    if_unknown : str
        When it is not known whether a request arrived: ``retry``, or ``ask`` an operator.
    timeout_s : float
        For one request, from the look-up of the host's name to the end of the answer, in seconds.
    retry_first_s, retry_most_s, give_up_s : float
        First and longest time between attempts, and how long there are any, in seconds.
    connections : int
        Requests at the same time.
    most_bytes : int
        Longest body of a document, and longest file that one is made of.
    ca_file : str
        Certificates to trust in place of the system's.
    plain_http : bool
        Send the credential without encryption to other hosts than this one.
    """

    url: str
    dataset_types: tuple[str, ...]
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    headers: dict[str, str] = {}
    credential_file: str = ""
    credential_variable: str = ""
    credential_header: str = "Authorization"
    credential_form: str = "Bearer {credential}"
    repositories: tuple[str, ...] = ()
    publishers: tuple[str, ...] = ()
    automatic: bool = False
    form: Literal["document", "file"] = "document"
    content_type: str = ""
    rows: str = ""
    row: Any = None
    rows_per_request: int = 1000
    body: Any = None
    answer: dict[str, str | int | float | bool | None] = {}
    accepted: tuple[int, ...] = ()
    undo: bool = False
    if_unknown: Literal["retry", "ask"] = "retry"
    timeout_s: float = 30.0
    retry_first_s: float = 1.0
    retry_most_s: float = 300.0
    give_up_s: float = 7 * 86400.0
    connections: int = 4
    most_bytes: int = 16 * _MIB
    ca_file: str = ""
    plain_http: bool = False


def problems(name: str, config: PublishConfig) -> Iterator[str]:
    """Say what of a target's configuration makes no sense."""
    if not _NAME.match(name):
        yield f"{name!r} must be letters, digits, '.', '_' and '-', at most 64"
    yield from _url_problems(config)
    yield from _header_problems(config)
    if not config.dataset_types:
        yield "dataset_types: is empty, so that nothing could be published there"
    if bool(config.rows) != (config.row is not None):
        yield "rows and row: one says where the list is, the other what is made of its elements; give both or none"
    if config.form == "file" and (config.body is not None or config.rows):
        yield "form: a file is sent as it is, without body, rows and row"
    if any(not 200 <= one <= 499 or 300 <= one <= 399 for one in config.accepted):
        yield "accepted: such as 409; redirections and the service's failures cannot be success"
    for key in ("timeout_s", "retry_first_s", "retry_most_s", "give_up_s", "connections", "rows_per_request"):
        if not getattr(config, key) > 0:
            yield f"{key}: must be positive"
    if not 0 < config.most_bytes <= 1024 * _MIB:
        yield "most_bytes: must be positive, and at most 1 GiB"


def _url_problems(config: PublishConfig) -> Iterator[str]:
    try:
        url = urlsplit(config.url)
        _ = url.port
    except ValueError:
        yield f"url: {config.url!r} is no URL"
        return
    if url.scheme not in ("http", "https") or not url.hostname:
        yield "url: must begin with http:// or https:// and a host"
    elif "{" in url.netloc:
        yield "url: the host is never filled in, only path and query"
    elif url.username is not None or url.password is not None:
        yield "url: must have no credentials; see credential_file"
    elif url.fragment or any(ord(char) <= 32 or ord(char) >= 127 for char in config.url):
        yield "url: must be printable ASCII without a fragment"
    has_credential = bool(config.credential_file or config.credential_variable)
    if has_credential and url.scheme == "http" and not config.plain_http and url.hostname not in _LOOPBACK:
        yield "url: a credential is not sent without encryption; use https, or say plain_http: true"


def _header_problems(config: PublishConfig) -> Iterator[str]:
    if config.credential_file and config.credential_variable:
        yield "credential_file and credential_variable: give one of them"
    if "{credential}" not in config.credential_form:
        yield "credential_form: has no {credential}"
    for key, value in {**config.headers, config.credential_header: config.credential_form}.items():
        if not _TOKEN.match(key) or key.lower() in _OWN_HEADERS:
            yield f"headers: {key!r} is no header that can be set"
        elif not value.isascii() or not value.isprintable():
            yield f"headers: {key}: must be printable ASCII"
    if not config.content_type.isascii() or not config.content_type.isprintable():
        yield "content_type: must be printable ASCII"
