"""Whether a restored server could stand in for a lost one: it takes the platform's writes, and its chains go on.

A judge of the fail-over drill, asked last, because it writes to the restored server.
"""

from psycopg.types.json import Jsonb

from pipelines.backup import ledger
from pipelines.backup.drill import Connect, Findings, Moment
from resources.database import APP_ROLE
from resources.sql import Queries

_SQL = Queries.of("pipelines.backup")


class StandIn:
    """Writes as the platform's own role does: an entry of the ledger, a heartbeat. `database`: the platform's."""

    name = "stand-in"

    def __init__(self, database: str, relation: str) -> None:
        self._database, self._relation = database, relation

    def judge(self, connect: Connect, moment: Moment) -> Findings:
        """Write, then read what was written over another connection."""
        entry = {
            "act": "fail-over drill",
            "relation": self._relation,
            "policy": "the restored server takes writes",
            "affected_rows": None,
            "proof": Jsonb({"moment": moment.upper.isoformat()}),
            "run_id": None,
        }
        with connect(self._database) as restored:
            before = ledger.head(restored)
            restored.execute(_SQL["act_as"], {"role": APP_ROLE})
            restored.execute(_SQL["ledger_entry"], entry)
            restored.execute(_SQL["beat"])
        with connect(self._database) as restored:
            after, faults = ledger.head(restored), ledger.faults(restored)
        if after.position != before.position + 1:
            faults.append(
                f"the ledger ended at {before.position}, and at {after.position} after one more entry"
            )
        return Findings(2, tuple(faults))
