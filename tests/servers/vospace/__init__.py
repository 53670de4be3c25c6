"""A VOSpace 2.1 service for tests (docs/decisions/0051-vospace-test-server.md).

Written from *VOSpace 2.1* (IVOA Recommendation 2018-06-20) and its schema, after *UWS 1.1*, *VOSI 1.1* and *SSO 2.0*.
Numbers are sections of VOSpace 2.1; module names are where the clause is followed.

=====================================  ==============  =============================================================
resource                               module          clause
=====================================  ==============  =============================================================
GET protocols, views, properties       `metadata`      5.1
GET capabilities, availability         `metadata`      VOSI 1.1, 2.1 and 2.3; section 4 for the standard IDs
PUT nodes/PATH                         `nodes`         5.2.1 createNode
GET nodes/PATH                         `nodes`         5.3.1 getNode: detail, uri, limit
GET nodes/PATH?view=data               `data`          5.4.3, deprecated convenience: 303
POST nodes/PATH                        `nodes`         5.3.2 setNode; 5.3.1 with an empty protocol representation
DELETE nodes/PATH                      `nodes`         5.2.4 deleteNode
POST transfers, direction = URI        `internal`      5.2.2 moveNode, 5.2.3 copyNode; .auto and .null (3.1)
POST transfers, synctrans              `transfers`     5.4.1 pushToVoSpace, 5.4.3 pullFromVoSpace, 3.6.4
POST or GET synctrans?TARGET=...       `transfers`     3.6.2 parameters, REQUEST=redirect
POST transfers                         `outside`       5.4.2 pullToVoSpace, 5.4.4 pushFromVoSpace, 3.6.3
transfers/ID and below                 `jobs`          UWS 1.1, 2.1 and 2.2: phases, WAIT, destruction, durations
data/KEY/NAME                          `data`          the endpoints that transfers give out (3.5, 4)
files/PATH, async-delete,              `data`,         not in the standard: the CADC family's
async-setprops                         `internal`
=====================================  ==============  =============================================================

Where the standard leaves a choice, this service does as follows; `config.Dialect` has the other ways.

- Rights (4): a node's owner may do everything to it; members of `groupwrite` read and write; members of `groupread`,
  and everybody if `publicread`, read. To reach a node one must be able to read all that it lies in. A new node takes
  these three from its container, and new data leave them alone. `ispublic` is another name of `publicread`.
- A new node of a transfer appears, busy, with the first byte of its data; if they do not come whole, it is gone again.
- An endpoint for which no security method was asked is pre-authorised for one method, and good for an hour.
- A property counts as modified if its value differs: a read-only one that is sent back as it was is no fault in
  setNode, and any is in createNode.
- QuotaExceeded, of which the standard knows nothing: 413, by containers whose `quota` is set; told at negotiation if
  the length is given then.
- NodeBusy and the other faults that the standard has for jobs only have the statuses of `faults.STATUS` where they
  answer a request.

Not here: archive views of containers (3.4.4), capabilities of nodes other than an empty list (3.3), StructuredDataNode
(TypeNotSupported), the public share protocol (3.5.4), credential delegation (of which VOSpace 2.1 has no more than the
name) and group management (groups are URIs that accounts have), searches (removed in 2.1), cookies.
"""

from tests.servers.vospace.fixture import GROUP, Person, VospaceServer

__all__ = ["GROUP", "Person", "VospaceServer"]
