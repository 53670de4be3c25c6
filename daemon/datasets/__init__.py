"""The life of a dataset's bytes: opening, putting, ingesting, and undoing what was cut off."""
