"""The task framework; not built yet."""
