"""The resource through which assets, ops and the sensor reach their desk."""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from claude_pipeline.settings import Settings
from claude_pipeline.stage.desk import Desk, open_desk


class DeskResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Opens a desk on the environment's settings. There is no field for a key: it is read from
    ANTHROPIC_API_KEY where the client connects, and is never part of any config."""

    home: str | None = None  # instead of CLAUDE_PIPELINE_HOME

    @contextmanager
    def open(self) -> Iterator[Desk]:
        settings = Settings.from_environment().with_home(Path(self.home) if self.home else None)
        with open_desk(settings) as desk:
            yield desk
