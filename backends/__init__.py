"""Where bytes come from: one contract, a package per kind of storage.

`contract` says what a backend is, `admission` how blocking SDK calls are let in, `loading` how a
backend is found by name through the entry-point group ``pantry.backends``, and `suite` is the
contract test suite that Pantry ships for backends of third parties.
"""
