"""Operations that publish datasets to web services."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from pantry.wire.operations.base import Operation
from pantry.wire.operations.registry import CountDone

PublicationState = Literal["begun", "sending", "waiting", "accepted", "refused", "unknown", "orphan"]
"""What became of a publication.

``begun`` until its dataset is committed, or ``sending`` if the commit waits for the service; ``waiting`` until the
service has answered; ``unknown`` if nobody knows whether the service did it; ``orphan`` if it did, or may have done so,
and the dataset was never committed.
"""

MAX_PUBLISHED = 5000
"""Datasets of one request."""

MAX_LISTED = 1000

MAX_WAIT_S = 86_400.0
"""Longest wait for services, in seconds."""


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset on its way to a service.

    Attributes
    ----------
    number : int
        By which it can be named.
    target, repository, dataset_type : str
        Where to, where from, and what.
    id : uuid.UUID
        The dataset.
    owner : str
        Who wanted it published.
    state : str
        See `PublicationState`.
    attempts : int
        How often it was tried.
    created_ns, changed_ns, next_ns : int
        When it was asked for, changed last, and is tried next; nanoseconds since 1970-01-01 UTC.
    status : int
        HTTP status of the last answer; 0 for none.
    problem : str
        What went wrong last; empty if nothing.
    """

    number: int
    target: str
    repository: str
    dataset_type: str
    id: UUID
    owner: str
    state: PublicationState
    attempts: int
    created_ns: int
    changed_ns: int
    next_ns: int
    status: int = 0
    problem: str = ""


class PublicationList(msgspec.Struct, frozen=True):
    """Publications, in the order asked for."""

    publications: tuple[Publication, ...]


class PublishDatasets(
    Operation[PublicationList], frozen=True, kw_only=True, omit_defaults=True, tag="publish.datasets"
):
    """Publish datasets that are stored; answered when that is durably remembered, or done.

    Attributes
    ----------
    repository, target : str
        Where from and where to.
    ids : bytes
        16 bytes for each dataset, at most `MAX_PUBLISHED`.
    wait_s : float
        Wait so long for the service's answers, in seconds; 0 for not at all.
    """

    result_type = PublicationList
    repository: str
    target: str
    ids: bytes
    wait_s: float = 0.0


class PublishTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A service that datasets can be published to.

    Attributes
    ----------
    name, url, method : str
        Its name, and where requests go; without the query and without secrets.
    dataset_types, repositories : tuple of str
        Names or patterns of what may go there.
    automatic : bool
        Whether each dataset of these types is published when it is put.
    problem : str
        Why nothing is being sent at the moment; empty if nothing is known to be wrong.
    """

    name: str
    url: str
    method: str
    dataset_types: tuple[str, ...]
    repositories: tuple[str, ...]
    automatic: bool
    problem: str = ""


class PublishTargetList(msgspec.Struct, frozen=True):
    """Targets, in order of name."""

    targets: tuple[PublishTarget, ...]


class ListPublishTargets(Operation[PublishTargetList], frozen=True, kw_only=True, tag="publish.targets"):
    """List the services that are configured."""

    result_type = PublishTargetList


class PublicationCount(msgspec.Struct, frozen=True, array_like=True):
    """How many publications of a target are in a state."""

    target: str
    state: PublicationState
    count: int


class PublishStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How publishing is.

    Attributes
    ----------
    counts : tuple of PublicationCount
        Of all of them.
    publications : tuple of Publication
        Those asked for, what changed last first, at most `MAX_LISTED`.
    """

    counts: tuple[PublicationCount, ...]
    publications: tuple[Publication, ...]


class GetPublishStatus(Operation[PublishStatus], frozen=True, kw_only=True, omit_defaults=True, tag="publish.status"):
    """Ask how one's own publications are; for administrators those of all users.

    Attributes
    ----------
    target : str
        Only those of this one; empty for all.
    states : tuple of str
        Which are listed; by default all that are not accepted.
    limit : int
        How many are listed at most.
    """

    result_type = PublishStatus
    target: str = ""
    states: tuple[PublicationState, ...] = ("begun", "sending", "waiting", "refused", "unknown", "orphan")
    limit: int = 100


class RetryPublications(Operation[CountDone], frozen=True, kw_only=True, omit_defaults=True, tag="publish.retry"):
    """Try publications at once that wait, were refused, or whose fate is unknown: one's own, administrators any.

    Attributes
    ----------
    target : str
        All of this one; empty for all.
    numbers : tuple of int
        Only these; empty for all.
    """

    result_type = CountDone
    target: str = ""
    numbers: tuple[int, ...] = ()


class ForgetPublications(Operation[CountDone], frozen=True, kw_only=True, tag="publish.forget"):
    """Give publications up, whatever their state: one's own, administrators any.

    A request that is under way is not called back.

    Attributes
    ----------
    numbers : tuple of int
        Which; all or none of them.
    """

    result_type = CountDone
    numbers: tuple[int, ...]
