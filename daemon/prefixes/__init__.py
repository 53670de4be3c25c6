"""Storage roots whose objects no registry knows: read by key, through the same cache, and asked for again in time."""
