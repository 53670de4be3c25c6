"""Composites: objects that are taken apart, put together, gathered and exported (decision 0046)."""

from pantry.client.composites.delegates import Delegate, delegate_by_name, delegate_of

__all__ = ["Delegate", "delegate_by_name", "delegate_of"]
