"""Engineering data beside the datasets."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, cast

from pantry.client.butler.access import RepositoryAccess

if TYPE_CHECKING:
    from pantry.client.butler.butler import Butler
    from pantry.client.efd.facility import Efd


class Engineering(RepositoryAccess):
    """The part of `Butler` that asks the engineering facility database (DMS-MWBT-REQ-0041 to 0044)."""

    @cached_property
    def efd(self) -> Efd:
        """The engineering facility database, base or transformed: ``butler.efd.query(topic, fields, visit=...)``."""
        from pantry.client.efd.facility import Efd

        return Efd(self.connection, cast("Butler", self))
