"""With what the daemon shows itself to origins: the node's secrets, and users' own credentials."""
