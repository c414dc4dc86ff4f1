"""Request bodies with a `Content-Encoding`: read as they come, never whole.

The SDK knows errors for an encoding that is unknown, that does not hold, and for a body too large
once it is decoded. Which encodings the API takes is not documented: gzip and deflate is assumed.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from claude_pipeline.simulator.error import ApiError

_STEP_BYTES = 1 << 20  # decoded at once, so that a small body cannot fill the memory
_WINDOW = 47  # of zlib: gzip or zlib, by the header


async def decoded(parts: AsyncIterator[bytes], encoding: str, most_bytes: int) -> AsyncIterator[bytes]:
    """The body's parts without their encoding. Raises 400 or 413."""
    name = encoding.strip().lower()
    if name not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise _refused(f"Content-Encoding '{encoding}' is not supported", "unsupported")
    plain = name in ("", "identity")
    inflate = zlib.decompressobj(_WINDOW)
    size_bytes = 0
    async for part in parts:
        rest = part
        while rest:
            if plain:
                piece, rest = rest, b""
            else:
                try:
                    piece = inflate.decompress(rest, _STEP_BYTES)
                except zlib.error as wrong:
                    raise _refused(f"The request body is not valid {name}: {wrong}", "invalid") from wrong
                rest = inflate.unconsumed_tail
            size_bytes += len(piece)
            if size_bytes > most_bytes:
                raise too_large(most_bytes, decoded=not plain)
            yield piece
    if not plain and not inflate.eof:
        raise _refused(f"The request body is not valid {name}: it ends too early", "invalid")


def too_large(most_bytes: int, *, decoded: bool = False) -> ApiError:
    details = {"error_code": "request_body_too_large_after_decoding"} if decoded else None
    return ApiError(413, f"Request exceeds the maximum size of {most_bytes:,} bytes", details=details)


def _refused(message: str, what: str) -> ApiError:
    return ApiError(400, message, details={"error_code": f"request_body_encoding_{what}"})
