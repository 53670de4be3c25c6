"""Publishing of datasets to web services (DMS-MWBT-REQ-0072, decision 0041).

`target` is what the operator configured, `templates` and `documents` make requests of datasets, `sending` sends one
of them, `outbox` remembers what is to be sent, `publisher` sends it, and again.
"""
