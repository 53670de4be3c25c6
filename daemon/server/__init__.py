"""The Unix socket: who is asking, what was asked, and the answer."""
