"""The node's one cache: immutable objects named by their content, in realms, under a quota.

`objects` is the store, `partial` the objects in the making, `index` the disposable memory of both
between two runs, `eviction` the choice of what goes.
"""
