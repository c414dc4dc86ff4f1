"""The resource `warehouse`: what is published, for assets of yours downstream of `<w>/summary`.

@dg.asset(deps=[dg.AssetKey(["tickets", "summary"]), "warehouse"])
def queues(warehouse: WarehouseResource) -> None:
    with warehouse.get_connection() as duck:
        frame = duck.sql("SELECT queue, count(*) FROM tickets.latest GROUP BY queue").df()
"""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster_duckdb import DuckDBResource
from pydantic import Field

from claude_pipeline.settings import Settings
from claude_pipeline.warehouse import open_newest


class WarehouseResource(DuckDBResource):
    """A `dagster_duckdb.DuckDBResource` that reads the newest publication, and can neither write nor wait.

    The plain one opens for writing, tries for minutes to get a lock, and keeps the version that its process opened
    first. Here every connection is read-only, to the version that stands when it is opened; a publication meanwhile
    is not held up, and is seen by the next connection.
    """

    database: str = Field(default="", description="The warehouse's file; empty: that of CLAUDE_PIPELINE_HOME.")

    @contextmanager
    def get_connection(self) -> Iterator[Any]:
        """A connection to the newest publication; times come in UTC. Raises UsageError where there is none."""
        link = Path(self.database) if self.database else Settings.from_environment().home.warehouse
        duck = open_newest(link, self.connection_config)
        try:
            yield duck
        finally:
            duck.close()
