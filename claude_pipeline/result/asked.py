"""What was asked, and how: alike in all rows of a chunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from claude_pipeline.catalog import Lane


@dataclass(frozen=True)
class AskedFacts:
    """What all rows of a chunk share that was asked, as a batch or in real time."""

    snapshot: str
    chunk: str
    attempt: int
    tag: str  # what its custom_ids begin with: of a journal, the chunk's key
    batch_id: str | None
    model: str
    max_tokens: int | None  # as they were asked
    answered_at: datetime | None = None  # of a batch; a journal's lines have their own
    counts: Mapping[str, int] = field(default_factory=dict)  # of a batch, by the API: outcome -> lines
    billed_at: datetime | None = None  # of a batch: its creation
    lane: Lane = "batch"

    @property
    def is_journal(self) -> bool:
        """Whether its lines are a journal's, and not a download's."""
        return self.lane == "realtime"

    @property
    def source(self) -> str:
        """What the lines are, for people."""
        if self.is_journal:
            return f"the journal of chunk {self.snapshot}|{self.chunk}"
        return f"results of {self.batch_id}"
