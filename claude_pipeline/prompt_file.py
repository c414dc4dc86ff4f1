"""A prompt's template in a file of its own."""

from __future__ import annotations

from pathlib import Path

from claude_pipeline.errors import WorkloadInvalid
from claude_pipeline.sendable import key_in, problem_of
from claude_pipeline.template import TEMPLATE_CHARACTERS_MAX

BYTES_MAX = 4 * TEMPLATE_CHARACTERS_MAX
_LARGE = f"is larger than {BYTES_MAX:,} bytes; write a shorter template"


def read_prompt_file(path: Path, *, place: str) -> str:
    """The template's text.

    Raises:
        WorkloadInvalid: it is missing, no file, empty, too large, not UTF-8, or holds what cannot be sent.
    """
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        whole = len(data) <= BYTES_MAX
        wrong = (
            f"is not UTF-8 (byte 0x{data[error.start]:02X} at offset {error.start:,}); convert it" if whole else _LARGE
        )
        raise WorkloadInvalid(f"prompt_file: {path} {wrong}", place=place) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "its name holds a NUL"
        raise WorkloadInvalid(f"prompt_file: cannot read {path} ({why}); name a text file", place=place) from None
    problem = _problem_of(text)
    if problem is not None:
        raise WorkloadInvalid(f"prompt_file: {path} {problem}", place=place)
    return text


def _problem_of(text: str) -> str | None:
    if not text.strip():
        return "is empty; write the prompt into it"
    if key_in(text) is not None:
        return "holds an API key; take it out, and revoke it"
    return problem_of(text)
