"""Asking query services through the daemon: catalogues by TAP, databases, the EFD."""

from __future__ import annotations

from pantry.client.queries.service import QueryService

__all__ = ["QueryService"]
