"""VOSpace 2.1 services as object storage (IVOA Recommendation 2018-06-20; MWBT-0028, 0029, 0040, 0065)."""

from pantry.backends.vospace.backend import VOSpaceBackend, VOSpaceBackendFactory

__all__ = ["VOSpaceBackend", "VOSpaceBackendFactory"]
