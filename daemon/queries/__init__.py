"""Query services: what may be asked of them, and their answers as files in the cache (decision 0052)."""
