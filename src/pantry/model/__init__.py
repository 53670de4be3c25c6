"""The shared vocabulary: frozen values that every room speaks, without any I/O.

Names are those of ``lsst.daf.butler`` where the meaning is the same.
"""
