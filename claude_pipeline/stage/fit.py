"""Whether a request can be answered at all: it must fit one batch, and the context of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from claude_pipeline.chunk import BODY_OVERHEAD_BYTES, ENTRY_OVERHEAD_BYTES
from claude_pipeline.request import Rejection, Request
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload

# More than any text has: what passes this is refused by the API for certain, and less is left for it to say (an errored
# request costs nothing). English has about 4.
BYTES_PER_TOKEN_MOST = 10
BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Fit:
    """The limits of a workload's requests. `contexts` are the tokens that its models take, where that is known."""

    bytes_max: int
    contexts: Mapping[str, int]

    @property
    def surely_bytes(self) -> int:
        """A request of at most so many bytes of params fits, whatever its model."""
        return min([self.bytes_max, *(context * BYTES_PER_TOKEN_MOST for context in self.contexts.values())])

    def checked(self, made: Request | Rejection) -> Request | Rejection:
        """The request where it fits, else why it does not."""
        if isinstance(made, Rejection):
            return made
        size = len(made.params)
        if size > self.bytes_max:
            return Rejection(
                made.row,
                made.record_id,
                "too_large",
                f"its request has {size:,} bytes, and chunk.bytes lets {self.bytes_max:,} into a batch; shorten the record",
            )
        context = self.contexts.get(made.model)
        if context is not None and size > context * BYTES_PER_TOKEN_MOST:
            return Rejection(
                made.row,
                made.record_id,
                "too_many_tokens",
                f"its request has about {size // BYTES_PER_TOKEN:,} tokens, and {made.model} takes {context:,}; "
                "shorten or split the record",
            )
        return made


def fit_of(desk: Desk, workload: Workload) -> Fit:
    """A cascade's record may go as far as the model that takes most: what one refuses is asked of the next."""
    contexts = {model: desk.catalog.model(model).context_tokens for model in workload.models}
    known = {model: tokens for model, tokens in contexts.items() if tokens is not None}
    if workload.cascade is not None:
        known = dict.fromkeys(workload.models, max(known.values())) if len(known) == len(contexts) else {}
    return Fit(workload.chunk.bytes - ENTRY_OVERHEAD_BYTES - BODY_OVERHEAD_BYTES, known)
