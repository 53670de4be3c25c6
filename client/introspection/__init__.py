"""What can be written next: names and values for completion, in Python, notebooks and shells (decision 0031)."""

from __future__ import annotations

from pantry.client.introspection.expressions import Completion

__all__ = ["Completion"]
