"""The result parser under a search that is guided by what the code does: a way that no input took before is followed up.

python -m claude_pipeline_tests.fuzz.guided SECONDS [FOLDER OF INPUTS]

With Atheris (the extra `fuzz`) the parser and the pricing are instrumented and libFuzzer spoils a corpus of real result lines;
where it has no wheel, the same corpus is spoiled at random. An input that breaks a claim is written to a file and told.
"""

from __future__ import annotations

import importlib
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from claude_pipeline.simulator import Options, running

REQUESTS = 3
COUNTS = {"succeeded": 1, "errored": 1, "canceled": 0, "expired": 1}
BROKEN = Path(".hypothesis") / "guided"
INSTRUMENTED = ("claude_pipeline.result.output", "claude_pipeline.result.parse", "claude_pipeline.stage.answers")
_PIECES = (
    b"null",
    b"-1",
    b"1e400",
    b"18446744073709551616",
    b"[]",
    b"{}",
    b'""',
    b"true",
    b"\\ud800",
    b"\xff",
    b"\n",
    b"[" * 2_000,
)


def corpus() -> list[bytes]:
    """Downloads as the simulator sends them, with ids as ours are: answers, errors, odd ones."""
    import anthropic

    from claude_pipeline_tests.fuzz.result_line import OUTPUT, TAG

    found: list[bytes] = []
    forms: list[dict[str, Any]] = [
        {},
        {"kind": "line_error", "share": 0.5},
        {"kind": "stuck"},
        {"kind": "odd_characters"},
    ]
    forms += [{"kind": "line_answer", "form": form} for form in ("refusal", "empty", "prose", "cut_json", "no_usage")]
    schema = {
        "type": "json_schema",
        "schema": {**OUTPUT, "properties": {"queue": OUTPUT["properties"]["queue"]}, "additionalProperties": False},
    }
    options = Options(batch_seconds=(60, 60), paused=True, thinking_rate=0.5)
    with (
        running(options) as simulator,
        anthropic.Anthropic(base_url=simulator.base_url, api_key=simulator.api_key, max_retries=0) as client,
    ):
        for form in forms:
            simulator.reset()
            if form:
                simulator.faults.add(**form)
            params: Any = {"model": "claude-haiku-5-5", "max_tokens": 99, "output_config": {"format": schema}}
            asked: Any = [
                {
                    "custom_id": f"{TAG}-{n}",
                    "params": params | {"messages": [{"role": "user", "content": f"note {n}"}]},
                }
                for n in range(REQUESTS)
            ]
            batch = client.messages.batches.create(requests=asked)
            simulator.clock.advance(90_000)
            client.messages.batches.retrieve(batch.id)
            found.append(b"".join(client.messages.batches.results(batch.id).http_response.iter_bytes()))
    return found


def one_input(data: bytes) -> None:
    """Whether the parser keeps its claims of a download; its length being odd or even stands for the batch's counts."""
    from claude_pipeline_tests.fuzz.test_result_lines import check_download

    counts = {"succeeded": REQUESTS} if len(data) % 2 else COUNTS
    check_download(data, REQUESTS, counts)


def main(arguments: Sequence[str]) -> int:
    seconds = float(arguments[0]) if arguments else 60.0
    atheris = _atheris()
    if atheris is None:
        print("Atheris is not here: the corpus is spoiled at random")
        return at_random(seconds, random.Random(0))
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        for name in INSTRUMENTED:
            importlib.import_module(name)
    with tempfile.TemporaryDirectory() if len(arguments) < 2 else nullcontext(arguments[1]) as folder:
        for number, data in enumerate(corpus()):
            (Path(folder) / f"real-{number}").write_bytes(data)
        BROKEN.mkdir(parents=True, exist_ok=True)
        flags = [
            f"-max_total_time={seconds:.0f}",
            "-max_len=20000",
            f"-artifact_prefix={BROKEN}/",
            "-print_final_stats=1",
        ]
        atheris.Setup(["guided", *flags, str(folder)], one_input)
        atheris.Fuzz()  # ends the process
    return 0


def _atheris() -> ModuleType | None:
    try:
        return importlib.import_module("atheris")
    except ImportError:
        return None


def at_random(seconds: float, chance: random.Random) -> int:
    """Spoil the corpus until the time is over; 1 where a claim broke."""
    inputs, tried, until = corpus(), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        data = bytearray(chance.choice(inputs))
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(data) + 1)
            data[place : place + chance.choice((0, 1, 3, 30))] = chance.choice(_PIECES)
        tried += 1
        try:
            one_input(bytes(data))
        except Exception:
            BROKEN.mkdir(parents=True, exist_ok=True)
            kept = BROKEN / f"random-{tried}"
            kept.write_bytes(data)
            print(f"{tried:,} inputs; the last one breaks a claim: {kept}")
            raise
    print(f"{tried:,} inputs at random, no claim broken")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
