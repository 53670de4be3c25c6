"""Jobs by UWS 1.1: phases, results, errors, blocking polls."""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.servers.vospace import names
from tests.servers.vospace.documents import Transfer, parse_time, serialise, transfer_element, uws_time
from tests.servers.vospace.faults import Fault
from tests.servers.vospace.request import Origin, Request, Response, see_other, text, xml
from tests.servers.vospace.service import Service

ACTIVE = ("PENDING", "QUEUED", "EXECUTING")
_MAX_WAIT_S = 60.0
_DURATION_S = 43_200
_LIFETIME_S = 7 * 86_400.0


@dataclass(kw_only=True)
class Job:
    """One job; changed under the lock of `Jobs` only.

    Attributes
    ----------
    work : Callable
        What it does, in a thread; returns True if that was all, False if the job goes on until somebody finishes it.
    info : Element or None
        Shown as its jobInfo.
    transfer, negotiated : Transfer or None
        What was asked for, and what came of it: ``results/transferDetails``.
    results : dict
        Name to link.
    duration_s : int
        Longest execution, in seconds; 0 for no end.
    """

    collection: str
    origin: Origin
    work: Callable[[Job], bool]
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    info: ET.Element | None = None
    transfer: Transfer | None = None
    negotiated: Transfer | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    run_id: str | None = None
    phase: str = "PENDING"
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    duration_s: int = _DURATION_S
    destruction: float = field(default_factory=lambda: time.time() + _LIFETIME_S)
    results: dict[str, str] = field(default_factory=dict)
    fault: Fault | None = None

    @property
    def url(self) -> str:
        return f"{self.origin.url}/{self.collection}/{self.id}"


class Jobs:
    """All jobs of a space; they end with the process."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs: dict[str, Job] = {}
        self._changed = threading.Condition()

    def add(self, job: Job) -> Job:
        """A new job, pending."""
        with self._changed:
            self._jobs[job.id] = job
        return job

    def run(self, job: Job) -> None:
        """Queue a job that is pending, and start it in a thread of its own."""
        with self._changed:
            if job.phase != "PENDING":
                raise Fault("InvalidArgument", f"a job that is {job.phase} cannot be run")
            self._set(job, "QUEUED")
        threading.Thread(target=self._execute, args=(job,), daemon=True).start()
        if self._service.dialect.prompt_jobs:
            with self._changed:
                self._changed.wait_for(lambda: job.phase not in ACTIVE, timeout=1.0)

    def run_here(self, job: Job) -> None:
        """Run a job to its end, or to where it waits for its client, in this thread."""
        with self._changed:
            self._set(job, "QUEUED")
        self._perform(job)

    def _execute(self, job: Job) -> None:
        self._service.jobs_released.wait()
        self._perform(job)

    def _perform(self, job: Job) -> None:
        with self._changed:
            if job.phase != "QUEUED":
                return  # aborted
            job.started = time.time()
            self._set(job, "EXECUTING")
        try:
            is_done = job.work(job)
        except Fault as fault:
            self.finish(job, fault)
        except Exception as exc:
            self.finish(job, Fault("InternalFault", repr(exc)))
        else:
            if is_done:
                self.finish(job)

    def finish(self, job: Job, fault: Fault | None = None) -> None:
        """End a job that executes: COMPLETED, or ERROR with its fault."""
        with self._changed:
            if job.phase in ("EXECUTING", "QUEUED"):
                job.fault = fault
                job.ended = time.time()
                self._set(job, "ERROR" if fault is not None else "COMPLETED")

    def abort(self, job: Job) -> None:
        with self._changed:
            if job.phase in ACTIVE:
                job.ended = time.time()
                self._set(job, "ABORTED")

    def find(self, job_id: str, collection: str) -> Job:
        """A job that is there still; one over its time is aborted first."""
        with self._changed:
            job = self._jobs.get(job_id)
            if job is not None and job.destruction <= time.time():
                self.destroy(job)
                job = None
            if job is None or job.collection != collection:
                raise Fault("NodeNotFound", f"job {job_id}", status=404)
            if job.phase == "EXECUTING" and job.duration_s and (job.started or 0) + job.duration_s <= time.time():
                self.abort(job)
            return job

    def destroy(self, job: Job) -> None:
        self.abort(job)
        with self._changed:
            self._jobs.pop(job.id, None)

    def listed(self, collection: str) -> list[Job]:
        with self._changed:
            return [job for job in self._jobs.values() if job.collection == collection]

    def wait(self, job: Job, phase: str | None, seconds: float) -> None:
        """Return when the job leaves its phase, at once unless that is ``phase`` (UWS 1.1, 2.2.1.7)."""
        with self._changed:
            seen = job.phase
            if seen in ACTIVE and phase in (None, seen):
                self._changed.wait_for(lambda: job.phase != seen, timeout=min(seconds, _MAX_WAIT_S))

    def _set(self, job: Job, phase: str) -> None:
        job.phase = phase
        self._changed.notify_all()


# The resources of a job list (UWS 1.1, section 2.2)


def answer(service: Service, jobs: Jobs, request: Request) -> Response:
    """Answer a request for a list of jobs, a job or one of its resources; creation is the caller's."""
    collection = request.path[0]
    if len(request.path) == 1:
        return _list(jobs, collection, request)
    job = jobs.find(request.path[1], collection)
    if job.origin.name is not None and job.origin.name != request.origin.name:
        service.deny(request.account, f"job {job.id} is somebody else's")
    resource = "/".join(request.path[2:])
    if request.method == "GET":
        return _show(service, jobs, job, resource, request)
    form = request.form()
    if request.method == "DELETE" or form.get("action") == "DELETE":
        jobs.destroy(job)
        return see_other(f"{job.origin.url}/{collection}")
    if request.method == "POST":
        _change(jobs, job, resource, form)
        return see_other(job.url)
    raise Fault("OperationNotSupported", request.method, status=405)


def _change(jobs: Jobs, job: Job, resource: str, form: dict[str, str]) -> None:
    phase = form.get("phase", "").upper()
    if resource in ("", "phase") and phase == "RUN":
        jobs.run(job)
    elif resource in ("", "phase") and phase == "ABORT":
        jobs.abort(job)
    elif resource == "executionduration" and form.get("executionduration", "").isdigit():
        job.duration_s = int(form["executionduration"])
    elif resource == "destruction":
        job.destruction = parse_time(form.get("destruction", ""))
    else:
        raise Fault("InvalidArgument", f"{resource or 'the job'} cannot be set to {form}")


def _list(jobs: Jobs, collection: str, request: Request) -> Response:
    if request.method != "GET":
        raise Fault("OperationNotSupported", request.method, status=405)
    wanted = request.parameters.get("phase")
    mine = [job for job in jobs.listed(collection) if job.origin.name in (None, request.origin.name)]
    chosen = [job for job in mine if wanted is None or job.phase == wanted.upper()]
    chosen.sort(key=lambda job: job.created, reverse=True)
    if "after" in request.parameters:
        after = parse_time(request.parameters["after"])
        chosen = [job for job in chosen if job.created > after]
    if request.parameters.get("last", "").isdigit():
        chosen = chosen[: int(request.parameters["last"])]
    root = ET.Element("uws:jobs", {"xmlns:uws": names.UWS, "xmlns:xlink": names.XLINK, "version": "1.1"})
    for job in chosen:
        one = ET.SubElement(root, "uws:jobref", {"id": job.id, "xlink:href": job.url})
        ET.SubElement(one, "uws:phase").text = job.phase
        ET.SubElement(one, "uws:creationTime").text = uws_time(job.created)
    return xml(serialise(root))


def _show(service: Service, jobs: Jobs, job: Job, resource: str, request: Request) -> Response:
    if resource in ("", "phase") and "wait" in request.parameters:
        try:
            seconds = float(request.parameters["wait"])
        except ValueError:
            raise Fault("InvalidArgument", "WAIT is no number") from None
        jobs.wait(job, request.parameters.get("phase"), seconds if seconds >= 0 else _MAX_WAIT_S)
    if not resource:
        return xml(serialise(job_element(job)))
    if resource == "error":
        if job.fault is None:
            return text("", status=404)
        return text(job.fault.text(details=service.dialect.fault_details))
    if resource == "results/transferDetails" and job.transfer is not None:
        return transfer_details(service, job)
    if resource in ("results", "parameters"):
        found = job_element(job).find(f"uws:{resource}")
        assert found is not None
        found.attrib.update({"xmlns:uws": names.UWS, "xmlns:xlink": names.XLINK})
        return xml(serialise(found))
    plain = {
        "phase": job.phase,
        "executionduration": str(job.duration_s),
        "destruction": uws_time(job.destruction),
        "quote": "",
        "owner": job.origin.name or "",
    }
    if resource not in plain:
        raise Fault("NodeNotFound", f"{job.url}/{resource}")
    return text(plain[resource])


def transfer_details(service: Service, job: Job) -> Response:
    """The negotiated transfer; one without protocols if there is none (5.4.1, faults)."""
    assert job.transfer is not None
    shown = job.negotiated or dataclasses.replace(job.transfer, protocols=[])
    return xml(serialise(transfer_element(shown, service.namespace)))


def job_element(job: Job) -> ET.Element:
    """The whole job, in the order of the schema."""
    root = ET.Element(
        "uws:job",
        {"xmlns:uws": names.UWS, "xmlns:xlink": names.XLINK, "xmlns:xsi": names.XSI, "version": "1.1"},
    )

    def put(tag: str, value: str | None) -> None:
        element = ET.SubElement(root, f"uws:{tag}", {} if value is not None else {"xsi:nil": "true"})
        element.text = value

    put("jobId", job.id)
    if job.run_id is not None:
        put("runId", job.run_id)
    put("ownerId", job.origin.name)
    put("phase", job.phase)
    put("quote", None)
    put("creationTime", uws_time(job.created))
    put("startTime", uws_time(job.started) if job.started is not None else None)
    put("endTime", uws_time(job.ended) if job.ended is not None else None)
    put("executionDuration", str(job.duration_s))
    put("destruction", uws_time(job.destruction))
    parameters = ET.SubElement(root, "uws:parameters")
    for name, value in job.parameters.items():
        ET.SubElement(parameters, "uws:parameter", {"id": name}).text = value
    results = ET.SubElement(root, "uws:results")
    for name, link in job.results.items():
        ET.SubElement(results, "uws:result", {"id": name, "xlink:href": link})
    if job.fault is not None:
        error = ET.SubElement(root, "uws:errorSummary", {"type": "fatal", "hasDetail": "true"})
        ET.SubElement(error, "uws:message").text = job.fault.summary
    if job.info is not None:
        ET.SubElement(root, "uws:jobInfo").append(job.info)
    return root
