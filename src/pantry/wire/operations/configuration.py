"""Operations on the daemon's configuration."""

from __future__ import annotations

import msgspec

from pantry.model.configuration import ActiveValue
from pantry.wire.operations.base import Operation


class ActiveConfiguration(msgspec.Struct, frozen=True):
    """The configuration that the daemon runs with, without secrets.

    Attributes
    ----------
    source : str
        The file that it was read from; empty for defaults only.
    values : tuple of ActiveValue
        All of it.
    """

    source: str
    values: tuple[ActiveValue, ...]


class GetConfiguration(Operation[ActiveConfiguration], frozen=True, tag="config.get"):
    """Every value of the daemon's configuration, with the file and line that set it; for administrators."""

    result_type = ActiveConfiguration
