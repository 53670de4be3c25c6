"""Reading from origins: replicas and failing over, back-off, what is known to be absent, time-outs."""
