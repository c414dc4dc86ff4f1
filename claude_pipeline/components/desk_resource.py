"""The resource through which assets, ops and the sensor reach their desk."""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg

from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.garbage import seldom_search
from claude_pipeline.ledger import Ledger
from claude_pipeline.settings import Settings
from claude_pipeline.stage.desk import Desk, open_desk

LOCK_TAG = "dagster/claude_lock"  # a run with it holds the lock that it names for as long as its process lives


def lock_name(run_id: str) -> str:
    return f"run-{run_id}"


class DeskResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Opens a desk on the environment's settings. There is no field for a key: it is read from
    ANTHROPIC_API_KEY where the client connects, and is never part of any config."""

    home: str | None = None  # instead of CLAUDE_PIPELINE_HOME

    @contextmanager
    def open(self) -> Iterator[Desk]:
        settings = Settings.from_environment().with_home(Path(self.home) if self.home else None)
        with open_desk(settings) as desk:
            yield desk

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Generator["DeskResource", None, None]:
        """While a run lives it holds a lock, so that the controller can tell one whose process was killed."""
        settings = Settings.from_environment().with_home(Path(self.home) if self.home else None)
        with ExitStack() as stack:
            if context.run is not None and context.instance is not None:
                stack.enter_context(seldom_search())
                try:
                    ledger = stack.enter_context(Ledger.open(settings.ledger_url, path=settings.home.ledger))
                except ClaudePipelineError:  # the run's first step says it better
                    yield self
                    return
                name = lock_name(context.run.run_id)
                stack.callback(settings.home.lock(name).unlink, missing_ok=True)
                stack.enter_context(ledger.lock(name, wait=True))
                context.instance.add_run_tags(context.run.run_id, {LOCK_TAG: name})
            yield self
