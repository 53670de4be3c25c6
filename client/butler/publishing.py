"""Datasets published to web services, by the daemon, which alone has their credentials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from pantry.client.butler.access import RepositoryAccess, names
from pantry.errors import InvalidRequestError, PublishError
from pantry.model.datasets import DatasetRef
from pantry.wire import operations as ops

WAIT_S = 300.0
"""How long `Butler.publish` waits unless it is told otherwise, in seconds."""


class PublishWish(NamedTuple):
    """To which services a put goes besides, and how long it waits for them, in seconds."""

    targets: tuple[str, ...] = ()
    wait_s: float = 0.0


NOT_PUBLISHED = PublishWish()


def publish_wish(targets: str | Iterable[str], wait: bool | float) -> PublishWish:
    """Make a wish of the arguments ``publish`` and ``wait`` of `Butler.put`."""
    return PublishWish(names(targets), _seconds(wait))


def _seconds(wait: bool | float) -> float:
    if isinstance(wait, bool):
        return WAIT_S if wait else 0.0
    return float(wait)


class Publishing(RepositoryAccess):
    """The methods of `Butler` that publish (DMS-MWBT-REQ-0072)."""

    def publish(
        self,
        refs: DatasetRef | UUID | Iterable[DatasetRef | UUID],
        target: str,
        *,
        wait: bool | float = False,
    ) -> list[ops.Publication]:
        """Publish stored datasets to a web service that the daemon's operator configured.

        When this returns, it is durably remembered: the datasets are sent until the service has accepted or refused
        them, also after a crash. What is on its way or was accepted before is not sent again.

        Parameters
        ----------
        refs : DatasetRef, UUID or iterable of these
            What to publish.
        target : str
            Name of the service; `publish_targets` lists them.
        wait : bool or float
            Wait for the service's answers: True for at most five minutes, or so many seconds.

        Returns
        -------
        list of Publication
            In the order of ``refs``, each dataset once: ``state`` is ``waiting``, or what the service answered.

        Raises
        ------
        PublishError
            With ``wait``: the service refused a dataset; the others are not affected.
        NotFoundError
            No target is called so.
        PermissionDeniedError
            You may not publish there, or not from this repository.
        InvalidRequestError
            The target does not take this type of dataset.
        """
        from pantry.wire.operations.publishing import MAX_PUBLISHED

        given = [refs] if isinstance(refs, DatasetRef | UUID) else list(refs)
        by_repository: dict[str, list[UUID]] = {}
        for one in given:
            holder = self._holder(one) if isinstance(one, DatasetRef) else self.repository
            by_repository.setdefault(holder, []).append(one.id if isinstance(one, DatasetRef) else one)
        wait_s = _seconds(wait)
        found: dict[UUID, ops.Publication] = {}
        for repository, ids in by_repository.items():
            for start in range(0, len(ids), MAX_PUBLISHED):
                asked = ops.PublishDatasets(
                    repository=repository,
                    target=target,
                    ids=b"".join(one.bytes for one in ids[start : start + MAX_PUBLISHED]),
                    wait_s=wait_s,
                )
                found.update({one.id: one for one in self.connection.call(asked).publications})
        if wait_s > 0:
            _raise_refused(list(found.values()), target)
        order = dict.fromkeys(one.id if isinstance(one, DatasetRef) else one for one in given)
        return [found[id_] for id_ in order if id_ in found]

    def publish_targets(self) -> list[ops.PublishTarget]:
        """Return the services that datasets can be published to."""
        return list(self.connection.call(ops.ListPublishTargets()).targets)

    def publish_status(
        self,
        target: str = "",
        *,
        states: Sequence[ops.PublicationState] | None = None,
        limit: int = 100,
    ) -> ops.PublishStatus:
        """Tell how one's own publications are; for administrators those of all users, of all repositories.

        Parameters
        ----------
        target : str
            Only those to this service.
        states : sequence of str, optional
            Which are listed: ``begun``, ``waiting``, ``accepted``, ``refused``, ``unknown``, ``orphan``; by default
            all but the accepted ones.
        limit : int
            How many are listed at most, up to 1,000; the counts are of all.
        """
        operation = ops.GetPublishStatus(target=target, limit=limit)
        if states is not None:
            operation = ops.GetPublishStatus(target=target, limit=limit, states=tuple(states))
        return self.connection.call(operation)

    def retry_publications(self, publications: Iterable[ops.Publication | int] = (), *, target: str = "") -> int:
        """Try publications again at once, also those that were refused; returns how many.

        Parameters
        ----------
        publications : iterable of Publication or int
            Which; by default all.
        target : str
            All to this service.
        """
        numbers = _numbers(publications)
        if numbers and target:
            raise InvalidRequestError("name publications, or a target, not both")
        return self.connection.call(ops.RetryPublications(target=target, numbers=numbers)).count

    def forget_publications(self, publications: Iterable[ops.Publication | int]) -> int:
        """Give publications up, so that they are neither sent nor listed any more; returns how many."""
        return self.connection.call(ops.ForgetPublications(numbers=_numbers(publications))).count


def _numbers(publications: Iterable[ops.Publication | int]) -> tuple[int, ...]:
    return tuple(one.number if isinstance(one, ops.Publication) else one for one in publications)


def _raise_refused(publications: Sequence[ops.Publication], target: str) -> None:
    refused = [one for one in publications if one.state in ("refused", "unknown")]
    if refused:
        first = refused[0]
        raise PublishError(
            f"{len(refused)} of {len(publications)} datasets are not published to {target!r}; {first.dataset_type}"
            f" {first.id}: {first.problem}",
            hint="`Butler.publish_status` and `pantry publish status` show all of them",
            status=first.status,
        )
