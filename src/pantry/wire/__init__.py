"""What client and daemon say to each other (DESIGN section 5).

`framing` turns bytes and descriptors into frames and back without doing I/O; `envelope` has the
frames' contents; `operations` has one typed request per thing that the daemon does, and
`identity` and `paths` the few facts about a socket that both sides need.
"""
