"""A storm: everything that is sent fails, and nothing is answered.

Then waiting helps and trying does not: one question at a time is asked to see, ever more rarely, so that questions do
not run out of tries because the API (or the way to it) was down for some minutes. If it lasts, more and more are
asked at a time: what is left may be questions that always fail, and they must end as well.
"""

from __future__ import annotations

from collections.abc import Hashable

from claude_pipeline.lane.waits import USUAL, Waits

QUESTIONS = 8  # that failed, where there are so many: of fewer it may be their own fault
JITTER = 0.25
PATIENT_PAUSES = 8  # about seven minutes; after them the questions asked at a time double


class Storm:
    """A failure makes it possible; it is one once half of what was sent since has failed and none was answered."""

    def __init__(self, waits: Waits = USUAL) -> None:
        self._waits = waits
        self._calm()

    def _calm(self) -> None:
        self._began_at: float | None = None  # the first failure
        self._sent = self._failed = self._pauses = 0  # since then
        self._questions: set[Hashable] = set()  # of those that failed
        self._paused_at = self._quiet_until = float("-inf")
        self._probes_left = self._probes_out = 0

    @property
    def suspected(self) -> bool:
        """Something failed and nothing was answered since: a question that has not failed yet tells more."""
        return self._failed > 0

    def wait_seconds(self, now: float) -> float:
        """How long nothing may be sent; infinite while what was sent to see is on its way."""
        if not self._pauses:
            return 0.0
        return max(0.0, self._quiet_until - now) if self._probes_left else float("inf")

    def sent(self) -> None:
        if self._began_at is not None:
            self._sent += 1
        if self._pauses:
            self._probes_left -= 1
            self._probes_out += 1

    def heard(self, sent_at: float) -> None:
        """The API did its work. Of what was sent before the first failure that says nothing."""
        if self._began_at is not None and sent_at > self._began_at:
            self._calm()

    def failed(self, key: Hashable, sent_at: float, *, others: int, now: float, chance: float) -> bool:
        """Whether with this failure of a question it became a storm, or goes on; `others` are those that could tell.

        `chance` is from 0 to 1.
        """
        if self._began_at is None:
            self._began_at = now
            return False
        if sent_at <= max(self._began_at, self._paused_at):
            return False
        self._failed += 1
        self._questions.add(key)
        if self._pauses:
            self._probes_out -= 1
            if self._probes_out or self._probes_left:
                return False
        elif len(self._questions) < min(QUESTIONS, others + 1) or 2 * self._failed < self._sent:
            return False
        pause = min(self._waits.storm * 2.0**self._pauses, self._waits.storm_most) * (1.0 + JITTER * chance)
        self._paused_at, self._quiet_until = now, now + pause
        self._pauses += 1
        self._probes_left = 2 ** min(max(0, self._pauses - PATIENT_PAUSES), 10)
        return True
