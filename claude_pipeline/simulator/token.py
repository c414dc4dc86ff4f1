"""How many tokens a text has, and the digest token by which an answer shows which prompt it belongs to.

Tokens are estimated from UTF-8 bytes (the real tokenizer is not public): a text of `n` bytes has
`ceil(n / model.bytes_per_token)` tokens. A message adds 4, an image 1,600, a document 3,000.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import orjson

from claude_pipeline.simulator.model import Model

MESSAGE_TOKENS = 4  # around each message (assumed)
IMAGE_TOKENS = 1_600
DOCUMENT_TOKENS = 3_000


def digest_token(prompt: str) -> str:
    """`[sha256:<16 hex>]` of the text of the last user message."""
    return f"[sha256:{hashlib.sha256(prompt.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}]"


def last_user_text(params: dict[str, Any]) -> str:
    """The text that the answer answers: the last user message's string, or its text blocks joined."""
    for message in reversed(params["messages"]):
        if message.get("role") == "user":
            content = message["content"]
            if isinstance(content, str):
                return content
            return "".join(block.get("text", "") for block in content if block.get("type") == "text")
    return ""


def size_of_text(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def tokens_of_text(text: str, model: Model) -> int:
    return math.ceil(size_of_text(text) / model.bytes_per_token)


def input_tokens(params: dict[str, Any], model: Model) -> int:
    """Everything the model reads: system, messages, tools and the output schema."""
    size_bytes, fixed = content_size(params.get("system", ""))
    for message in params["messages"]:
        more_bytes, more_fixed = content_size(message["content"])
        size_bytes += more_bytes
        fixed += more_fixed + MESSAGE_TOKENS
    for extra in (params.get("tools"), params.get("output_config")):
        if extra:
            size_bytes += len(orjson.dumps(extra))
    return math.ceil(size_bytes / model.bytes_per_token) + fixed


def content_size(content: Any) -> tuple[int, int]:
    """Bytes of text, and tokens that do not come from text, of a string or a list of content blocks."""
    if isinstance(content, str):
        return size_of_text(content), 0
    size_bytes = 0
    fixed = 0
    for block in content:
        match block.get("type"):
            case "text":
                size_bytes += size_of_text(block["text"])
            case "image":
                fixed += IMAGE_TOKENS
            case "document":
                fixed += DOCUMENT_TOKENS
            case _:
                size_bytes += len(orjson.dumps(block))
    return size_bytes, fixed
