"""The resources of one VOSpace service: nodes, jobs, negotiated transfers."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from pantry.backends.vospace import _documents as documents
from pantry.backends.vospace._blocking import Answer, Checkpoint, Web
from pantry.backends.vospace._documents import DEFAULT_NAMESPACE, Endpoint, Node
from pantry.backends.vospace._faults import fault, fault_in, fault_name
from pantry.backends.vospace.options import VOSpaceOptions, quoted
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ObjectExistsError,
    ObjectNotFoundError,
    TransientBackendError,
)

_STANDARD_IDS = {
    "nodes": ("ivo://ivoa.net/std/VOSpace/v2.0#nodes", "ivo://ivoa.net/std/VOSpace#nodes"),
    "transfers": ("ivo://ivoa.net/std/VOSpace/v2.0#transfers", "ivo://ivoa.net/std/VOSpace#transfers"),
    "synctrans": ("ivo://ivoa.net/std/VOSpace#sync-2.1", "ivo://ivoa.net/std/VOSpace/v2.0#sync"),
    "files": ("ivo://ivoa.net/std/VOSpace#files", "ivo://ivoa.net/std/VOSpace#files-proto"),
}
_GOING = frozenset({"PENDING", "QUEUED", "EXECUTING", "HELD", "SUSPENDED", "UNKNOWN", ""})
_WAIT_S = 10
_LONGEST_POLL_S = 1.0
_BUSY_TRIES = 10


class Service:
    """Asks one service about nodes below one root; safe for use by many threads.

    Parameters
    ----------
    web : Web
        Sends the requests.
    authority, root : str
        Of the storage root.
    options : VOSpaceOptions
        Where the service is, and how it is asked.
    """

    def __init__(self, web: Web, authority: str, root: str, options: VOSpaceOptions) -> None:
        self._web = web
        self._authority = authority
        self._root = root
        self._options = options
        self._base = options.endpoint_url.rstrip("/")
        self._lock = threading.Lock()
        self._resources: dict[str, str] | None = None
        self._namespace = ""
        self._async_only = options.transfers == "async"

    def path(self, key: str) -> str:
        """Path of a key in the space."""
        return "/".join(part for part in (self._root, key) if part)

    def uri(self, key: str) -> str:
        """Give the identifier of the node of a key."""
        return f"vos://{self._authority}/{quoted(self.path(key))}"

    # -- resources ---------------------------------------------------------------------------------

    def resource(self, name: str, checkpoint: Checkpoint) -> str:
        """URL of a resource; empty if the service's capabilities do not have it."""
        with self._lock:
            found = self._resources
        if found is None:
            found = self._read_resources(checkpoint)
            with self._lock:
                self._resources = found
        return found.get(name, "")

    def _read_resources(self, checkpoint: Checkpoint) -> dict[str, str]:
        # Capabilities are required by the standard, and lacking in some services: then the standard's names.
        usual = {name: f"{self._base}/{name}" for name in ("nodes", "transfers", "synctrans")}
        answer = self._web.ask("GET", f"{self._base}/capabilities", "capabilities", checkpoint=checkpoint)
        if answer.status in (404, 405, 410, 501):
            return usual
        listed = documents.read_capabilities(answer.expect("capabilities").body)
        methods = self._web.security_methods or ("",)
        found: dict[str, str] = {}
        for name, ids in _STANDARD_IDS.items():
            offers = [one for one in listed if one.standard_id in ids and urlsplit(one.url).scheme in ("http", "https")]
            # The interface for our credential, else any; the service's own scheme first.
            offers.sort(
                key=lambda one: (
                    not any(method in one.security for method in methods) and bool(one.security or methods != ("",)),
                    urlsplit(one.url).scheme != urlsplit(self._base).scheme,
                )
            )
            if offers:
                found[name] = offers[0].url.rstrip("/")
        return {"nodes": usual["nodes"], "transfers": usual["transfers"], **found}

    def namespace(self, checkpoint: Checkpoint) -> str:
        """Namespace that the service writes its documents in; what we send has it too."""
        if not self._namespace:
            answer = self._web.ask(
                "GET", self._node_url("", checkpoint, root=True), "", params={"limit": "0"}, checkpoint=checkpoint
            )
            found = documents.read_node(answer.body, "its root").namespace if answer.status == 200 else ""
            if not found and answer.status >= 500:
                answer.expect("")
            self._namespace = found or DEFAULT_NAMESPACE
        return self._namespace

    def _node_url(self, key: str, checkpoint: Checkpoint, *, root: bool = False) -> str:
        nodes = self.resource("nodes", checkpoint)
        path = "" if root else quoted(self.path(key))
        return f"{nodes}/{path}" if path else nodes

    # -- nodes ----------------------------------------------------------------------------------------

    def node(self, key: str, checkpoint: Checkpoint) -> Node:
        """Describe a node without its children; `ObjectNotFoundError` if there is none."""
        answer = self._web.ask(
            "GET", self._node_url(key, checkpoint), key, params={"limit": "0", "detail": "max"}, checkpoint=checkpoint
        )
        return self._read(answer.expect(key, 200), key)

    def children(self, key: str, after: str, checkpoint: Checkpoint) -> Node:
        """Describe a container with a page of its children: from the one of identifier ``after`` on, that included."""
        params = {"limit": str(self._options.page_size), "detail": "max"}
        if after:
            params["uri"] = after
        answer = self._web.ask("GET", self._node_url(key, checkpoint), key, params=params, checkpoint=checkpoint)
        return self._read(answer.expect(key, 200), key)

    def _read(self, answer: Answer, key: str) -> Node:
        found = documents.read_node(answer.body, key)
        self._namespace = self._namespace or found.namespace
        return found

    def make_container(self, key: str, checkpoint: Checkpoint) -> bool:
        """Create a container, and those on the way; False if it is there already."""
        document = documents.write_node(self.namespace(checkpoint), self.uri(key), "ContainerNode")
        for parents_made in (False, True):
            answer = self._web.ask("PUT", self._node_url(key, checkpoint), key, body=document, checkpoint=checkpoint)
            try:
                answer.expect(key)
            except ObjectExistsError:
                return False
            except ObjectNotFoundError:
                if parents_made or not self.path(key):
                    raise
                self._make_above(key, checkpoint)
            else:
                return True
        raise AssertionError(key)

    def _make_above(self, key: str, checkpoint: Checkpoint) -> None:
        if key:
            self.make_container(key.rpartition("/")[0], checkpoint)
            return
        # The storage root itself: its parents are above what keys can name.
        parts = self._root.split("/")
        for count in range(1, len(parts)):
            path = "/".join(parts[:count])
            uri = f"vos://{self._authority}/{quoted(path)}"
            document = documents.write_node(self.namespace(checkpoint), uri, "ContainerNode")
            url = f"{self.resource('nodes', checkpoint)}/{quoted(path)}"
            answer = self._web.ask("PUT", url, path, body=document, checkpoint=checkpoint)
            if not 200 <= answer.status < 300 and answer.status != 409:
                answer.expect(path)

    def set_properties(self, key: str, kind: str, properties: Mapping[str, str | None], checkpoint: Checkpoint) -> None:
        """Set properties of a node, or remove those that are None."""
        document = documents.write_node(self.namespace(checkpoint), self.uri(key), kind, properties)
        url = self._node_url(key, checkpoint)
        self._web.ask("POST", url, key, body=document, checkpoint=checkpoint, repeat=True).expect(key)

    def delete(self, key: str, checkpoint: Checkpoint) -> bool:
        """Delete a node with all that it holds; False if there is none."""
        url = self._node_url(key, checkpoint)
        for attempt in range(_BUSY_TRIES):
            answer = self._web.ask("DELETE", url, key, checkpoint=checkpoint)
            if fault_name(answer.status, answer.body) != "NodeBusy":
                break
            # The end of a transfer that was cut off has not been noticed yet.
            checkpoint()
            time.sleep(min(0.02 * 2**attempt, _LONGEST_POLL_S))
        try:
            answer.expect(key)
        except ObjectNotFoundError:
            return False
        return True

    def move(self, source: str, destination: str, checkpoint: Checkpoint) -> None:
        """Move a node to a new name, or into a container that is there; `ObjectExistsError` if the name is taken."""
        document = documents.write_move(self.namespace(checkpoint), self.uri(source), self.uri(destination))
        job = self._start_job(document, destination, checkpoint)
        phase = self._wait(job, ("COMPLETED",), destination, checkpoint)
        if phase != "COMPLETED":
            raise self._job_error(job, phase, destination, checkpoint)

    # -- jobs -------------------------------------------------------------------------------------------

    def _start_job(self, document: bytes, key: str, checkpoint: Checkpoint) -> str:
        url = self.resource("transfers", checkpoint)
        answer = self._web.ask("POST", url, key, body=document, follow=False, checkpoint=checkpoint)
        job = answer.expect(key, 303).location
        run = self._web.ask(
            "POST",
            f"{job}/phase",
            key,
            params={"PHASE": "RUN"},
            form=True,
            follow=False,
            checkpoint=checkpoint,
            repeat=True,
        )
        # 400: it runs already: asked twice, or in services that start what is posted.
        run.expect(key, 200, 303, 400)
        return job

    def _wait(self, job: str, wanted: tuple[str, ...], key: str, checkpoint: Checkpoint) -> str:
        """Return the phase of a job that has ended, or is one of ``wanted``."""
        until_s = time.monotonic() + self._options.job_timeout_s
        poll_s = 0.02
        while True:
            asked_s = time.monotonic()
            answer = self._web.ask("GET", f"{job}/phase", key, checkpoint=checkpoint).expect(key)
            phase = answer.body.decode("ascii", "replace").strip()
            if phase in wanted or phase not in _GOING:
                return phase
            if asked_s > until_s:
                self._abort(job, key)
                raise TransientBackendError(f"a job of the VOSpace service about {key!r} does not end", key=key)
            # UWS 1.1, section 2.2.1.1: the service holds the answer back; those of 1.0 answer at once.
            self._web.ask("GET", job, key, params={"WAIT": str(_WAIT_S), "PHASE": phase}, checkpoint=checkpoint)
            if time.monotonic() - asked_s < poll_s:
                time.sleep(poll_s)
                poll_s = min(2 * poll_s, _LONGEST_POLL_S)

    def _abort(self, job: str, key: str) -> None:
        try:
            self._web.ask(
                "POST", f"{job}/phase", key, params={"PHASE": "ABORT"}, form=True, follow=False, checkpoint=lambda: None
            )
        except BackendError:
            return

    def _job_error(self, job: str, phase: str, key: str, checkpoint: Checkpoint) -> BackendError:
        answer = self._web.ask("GET", f"{job}/error", key, checkpoint=checkpoint)
        said = documents.read_error(answer.body) if answer.status == 200 else ""
        if not fault_in(said):
            whole = self._web.ask("GET", job, key, checkpoint=checkpoint)
            said = documents.read_error(whole.body) if whole.status == 200 else said
        return fault(fault_in(said), key, said or f"the job ended {phase}")

    # -- transfers ---------------------------------------------------------------------------------------

    def negotiate(
        self, key: str, direction: str, checkpoint: Checkpoint, *, size_bytes: int | None = None
    ) -> list[Endpoint]:
        """Ask where the bytes of a node can be fetched from or are to be sent to, best first; never empty."""
        # What is asked for by https does not come by http.
        wanted = documents.PROTOCOLS[direction][: 1 if self._base.startswith("https:") else None]
        methods = ("", *self._web.security_methods[:1])
        # Each protocol without credentials (a URL that is authorised in advance), then with ours.
        pairs = [(protocol, method) for protocol in wanted for method in methods]
        document = documents.write_transfer(self.namespace(checkpoint), self.uri(key), direction, pairs, size_bytes)
        found = None
        if not self._async_only:
            found = self._negotiate_now(document, key, wanted, checkpoint)
        if found is None:
            found = self._negotiate_by_job(document, key, wanted, checkpoint)
        usable = [one for one in found if not one.security or self._web.is_trusted(one.url)]
        if not usable:
            raise BackendAccessError(
                f"the VOSpace service keeps {key!r} at {urlsplit(found[0].url).hostname}, which wants a credential",
                hint="If that host may be sent the credential of this storage root, add it to trusted_hosts.",
                key=key,
            )
        return usable

    def _negotiate_now(
        self, document: bytes, key: str, wanted: tuple[str, ...], checkpoint: Checkpoint
    ) -> list[Endpoint] | None:
        url = self.resource("synctrans", checkpoint)
        if not url:
            self._async_only = self._options.transfers == "auto"
            return None
        answer = self._web.ask("POST", url, key, body=document, follow=False, checkpoint=checkpoint, repeat=True)
        if (
            answer.status in (404, 405, 501)
            and self._options.transfers == "auto"
            and not fault_in(answer.body[:200].decode("latin-1"))
        ):
            self._async_only = True
            return None
        details = answer.expect(key, 303).location
        found = self._web.ask("GET", details, key, checkpoint=checkpoint)
        endpoints = documents.read_endpoints(found.expect(key, 200).body, wanted)
        if endpoints:
            return endpoints
        job, _, _ = details.partition("/results/")
        raise self._job_error(job, "without an endpoint", key, checkpoint)

    def _negotiate_by_job(
        self, document: bytes, key: str, wanted: tuple[str, ...], checkpoint: Checkpoint
    ) -> list[Endpoint]:
        job = self._start_job(document, key, checkpoint)
        phase = self._wait(job, ("EXECUTING", "COMPLETED"), key, checkpoint)
        if phase in ("EXECUTING", "COMPLETED"):
            # The job executes until the bytes have gone; its result is there when it can be used.
            until_s = time.monotonic() + self._options.job_timeout_s
            while time.monotonic() < until_s:
                found = self._web.ask("GET", f"{job}/results/transferDetails", key, checkpoint=checkpoint)
                if found.status == 200 and (endpoints := documents.read_endpoints(found.body, wanted)):
                    return endpoints
                phase = self._wait(job, ("EXECUTING", "COMPLETED"), key, checkpoint)
                if phase != "EXECUTING":
                    break
                time.sleep(0.05)
        raise self._job_error(job, phase, key, checkpoint)

    def files_url(self, key: str, checkpoint: Checkpoint) -> str:
        """URL by which the bytes of a node are had without negotiating; empty if there is none."""
        files = self.resource("files", checkpoint) if self._options.files else ""
        return f"{files}/{quoted(self.path(key))}" if files else ""

    def relative(self, uri: str) -> str | None:
        """Key of a node below the root by its identifier; None if it lies elsewhere, or cannot be a key."""
        scheme, separator, rest = uri.partition("://")
        authority, _, path = rest.partition("/")
        if scheme != "vos" or not separator or authority.replace("~", "!") != self._authority.replace("~", "!"):
            return None
        path = unquote(path.strip("/"))
        below = f"{self._root}/" if self._root else ""
        return path[len(below) :] if path.startswith(below) and path != below else None
