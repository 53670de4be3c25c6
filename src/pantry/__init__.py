"""Pantry: node-local access to astronomical data repositories.

The rooms of the house are the subpackages: `pantry.model` and `pantry.wire` are the shared
vocabulary, `pantry.client` is what programs use, `pantry.daemon` is the one process with state,
`pantry.backends` is where bytes come from and `pantry.fusefs` is the mounted view.
"""

__version__ = "0.1.0"
