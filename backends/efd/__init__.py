"""The engineering facility database (EFD), base and transformed, behind one kind of query (DMS-MWBT-REQ-0041 to 0044).

``efd+https://host:8086/database`` (or ``efd+http:``) is a base EFD, an InfluxDB 1 that is asked in InfluxQL;
``efd+postgresql://host/database`` is a transformed one. The same `TopicQuery` gives the same table from both.

``_influx`` and ``_postgresql`` fetch samples, ``instants`` makes times of them, ``samples`` puts them in order,
``bins`` takes means, ``tables`` writes Parquet; what is done once for both is done here and not by the services, so
that it is the same.
"""

from pantry.backends.efd.backend import EfdBackend, EfdBackendFactory

__all__ = ["EfdBackend", "EfdBackendFactory"]
