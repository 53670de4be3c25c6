"""The command line, for people: `pantry`."""
