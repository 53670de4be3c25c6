"""The engineering facility database (EFD) as its users ask it: `pantry.client.Butler.efd`.

`facility` is what they call, `spans` understands times and observations, `results` makes the tables.
"""
