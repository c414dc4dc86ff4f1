"""The guards of the submit protocol, each with the edit that takes it out and the tests that look after it.

An edit is exact: where its text is gone from the source, the guard has moved and the edit must follow.
"""

from __future__ import annotations

from dataclasses import dataclass

SUBMIT = "claude_pipeline_tests/integration/test_submit_protocol.py"
RECONCILE = "claude_pipeline_tests/integration/test_reconcile.py"
EVIDENCE = "claude_pipeline_tests/integration/test_doubt_evidence.py"
COLLECT = "claude_pipeline_tests/integration/test_collect.py"
LEDGER = "claude_pipeline_tests/integration/test_ledger.py"
RECOVERY = "claude_pipeline_tests/integration/test_recovery.py"
CRASH = "claude_pipeline_tests/integration/test_crash.py"
SEEDS = "claude_pipeline_tests/simulation/test_simulation.py"


@dataclass(frozen=True)
class Edit:
    """`old`, which stands once in `file`, becomes `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A guard taken out: by several edits where one guard masks another."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]  # tried in order, until one fails


_SUBMIT, _RECONCILE, _LISTING = ("claude_pipeline/lane/submit.py", "claude_pipeline/lane/reconcile.py",
                                 "claude_pipeline/lane/listing.py")  # fmt: skip
_OPEN = "    intent = ledger.intent_opened(chunk, tag=tag, watermark=watermark, walls=walls, at=clock())\n"
_CREATE = "    answer = client.create(Body(params, intent.tag, requests=chunk.requests))\n"
_REACHES = "    if (intent.watermark is not None or older) and not met and not older & listed.keys():\n"
_MISSING = "    if missing:\n"

MUTANTS = (
    Mutant(
        "watermark: the newest batch before the create is not noted",
        (Edit(_SUBMIT, "    watermark = newest.batches[0].id if newest.batches else None\n", "    watermark = None\n"),
         Edit(_SUBMIT, "    if watermark is None and ledger.batches_in_progress():\n", "    if False:\n")),
        (SUBMIT, RECONCILE, SEEDS),
    ),
    Mutant(
        "list completeness: a list that does not reach back, or lacks a batch of ours, decides",
        (Edit(_LISTING, _REACHES, "    if False:\n"), Edit(_LISTING, _MISSING, "    if False:\n")),
        (RECONCILE, EVIDENCE, SEEDS),
    ),
    Mutant(
        "list completeness: only the first page is read",
        (Edit(_LISTING, "        if not page.has_more or not page.batches:\n", "        if True:\n"),
         Edit(_LISTING, _REACHES, "    if False:\n"), Edit(_LISTING, _MISSING, "    if False:\n")),
        (RECONCILE, EVIDENCE, SEEDS),
    ),
    Mutant(
        "workspace pin: another workspace's list decides",
        (Edit("claude_pipeline/ledger/submit_moves.py", "        elif pinned != workspace_id:\n", "        elif False:\n"),),
        (SUBMIT, RECONCILE, SEEDS),
    ),
    Mutant(
        "intent before POST: the intent is noted after the answer",
        (Edit(_SUBMIT, _OPEN, "    answer = client.create(Body(params, tag, requests=chunk.requests))\n" + _OPEN), Edit(_SUBMIT, _CREATE, "")),
        (CRASH, SUBMIT, SEEDS),
    ),
    Mutant(
        "max_retries=0: the SDK sends a create again by itself",
        (Edit("claude_pipeline/lane/access.py", '"max_retries": 0,', '"max_retries": 2,'),),
        (SUBMIT, RECOVERY),
    ),
    Mutant(
        "5xx is not a refusal: a create answered 500 is sent again",
        (Edit("claude_pipeline/lane/client.py", "    if not 400 <= status < 500 or status in (408, 409):\n",
              "    if status in (408, 409):\n"),),
        (SUBMIT, RECONCILE, SEEDS),
    ),
    Mutant(
        "lock: whoever comes submits",
        (Edit("claude_pipeline/ledger/lock.py", "                yield Hold(False, lambda: False)\n                return\n",
              "                yield Hold(True, lambda: True)\n                return\n"),),
        (SUBMIT, LEDGER, SEEDS),
    ),
    Mutant(
        "settle: a doubt is decided at once",
        (Edit(_RECONCILE, "        if now < due_at:\n", "        if False:\n"),),
        (RECONCILE, SEEDS),
    ),
    Mutant(
        "frozen candidates: newer batches of the same size keep a doubt open",
        (Edit(_RECONCILE, "    if intent.candidates is None:\n", "    if True:\n"),),
        (RECONCILE, SEEDS),
    ),
    Mutant(
        "wait for running candidates: one that runs is passed over",
        (
            Edit(
                _RECONCILE,
                '                why = f"{candidate} may be it; waiting for its end"\n                continue\n',
                "                continue\n",
            ),
        ),
        (RECONCILE, SEEDS),
    ),
    Mutant(
        "peek before adopt: a batch of the same size is taken for ours",
        (
            Edit(
                _RECONCILE,
                "            identity = identify(ledger, client, seen, clock=clock)\n",
                '            ledger.intent_live(intent, seen, at=clock(), move="batch adopted")\n            return\n'
                "            identity = identify(ledger, client, seen, clock=clock)\n",
            ),
        ),
        (RECONCILE, SEEDS),
    ),
    Mutant(
        "an empty peek decides nothing: results without a line are a stranger's",
        (Edit("claude_pipeline/lane/identify.py", "    if not isinstance(custom_id, str):\n",
              '    if not isinstance(custom_id, str):\n        return Tag("")\n    if False:\n'),),
        (RECONCILE, EVIDENCE, SEEDS),
    ),
    Mutant(
        "count and id check before collect: any lines will do",
        (Edit("claude_pipeline/result/parse.py", "            self._check_counts(table)\n", "            pass\n"),),
        (COLLECT, RECOVERY, SEEDS),
    ),
    Mutant(
        "unique index: two living intents of a chunk",
        (Edit("claude_pipeline/ledger/table.py", "CREATE UNIQUE INDEX intent_one", "CREATE INDEX intent_one"),),
        (LEDGER, SUBMIT),
    ),
    Mutant(
        "compare-and-set: a move whose state has changed goes through",
        (Edit("claude_pipeline/ledger/store.py", "    if rowcount != 1:\n", "    if False:\n"),),
        (LEDGER, SUBMIT, SEEDS),
    ),
)  # fmt: skip
