"""Catalogues of the Virtual Observatory: TAP services, cone searches (SCS) and image searches (SIA 2).

``tap+https://host/path`` (or ``tap+http:``) is asked in ADQL, at once or by a job (`TapOptions.mode`); ``scs+https:``
and ``sia2+https:`` by their parameters. Values become part of a query by `adql` and `parameters` alone.
"""

from pantry.backends.tap.backend import ParameterBackendFactory, TapBackend, TapBackendFactory

__all__ = ["ParameterBackendFactory", "TapBackend", "TapBackendFactory"]
