"""``SqlStore``: the ``Store`` protocol once for every SQL engine, a module per noun.

Nothing here knows which engine it runs on: that is ``database.Database``'s. The statements are in
``relay/store/queries``, their loading in ``queries.py``, rows and nouns meet in ``rows.py``.
Read ``recording.py`` first: it is the one transaction everything else stands on.
"""

from __future__ import annotations

from relay.store import base
from relay.store.sql import database
from relay.store.sql.deliveries import Deliveries
from relay.store.sql.destinations import Destinations
from relay.store.sql.keys import Keys
from relay.store.sql.maintenance import Maintenance
from relay.store.sql.redeliveries import Redeliveries
from relay.store.sql.submissions import Submissions
from relay.store.sql.tasks import Tasks
from relay.store.sql.writing import Writing


class SqlStore(
    Writing,
    Tasks,
    Deliveries,
    Destinations,
    Redeliveries,
    Keys,
    Submissions,
    Maintenance,
    base.Store,
):
    """Everything, on one ``Database``. ``applied`` names the migrations that opening it ran."""

    def __init__(self, target: database.Database, *, applied: tuple[str, ...] = ()) -> None:
        super().__init__(target)
        self.applied = applied
