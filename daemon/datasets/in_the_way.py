"""What is said of a file that has the name of a new one."""

from __future__ import annotations

from functools import partial

from pantry.backends.admission import Admission
from pantry.daemon.repositories.repository import Repository
from pantry.errors import DatasetExistsError

_MAYBE = "another write of the same dataset is under way, or a file was put there by other means"


async def exists_already(
    repository: Repository, queries: Admission, key: str, *, hint: str = _MAYBE
) -> DatasetExistsError:
    """Return the error for a file that is in the way, though the registry has no such dataset.

    It may have stayed when the dataset of that name was deleted, for those with which it was imported.
    """
    message = f"{key} exists in {repository.backend.location} already, though the registry has no such dataset"
    others = await queries.call(partial(repository.registry.count_sharers, key))
    if others:
        message = f"{key} exists in {repository.backend.location} already: it is the file of {others} other datasets"
        hint = "it stays as long as one of them is there; put this one into another run, or delete those"
    return DatasetExistsError(message, hint=hint)
