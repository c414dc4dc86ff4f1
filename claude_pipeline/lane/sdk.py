"""The `anthropic` SDK: when it is imported, how much of it, and what a process makes of it once.

Its three thousand modules are what costs most in a run: nothing imports it before the API is asked, and then a fifteenth of it.
"""

from __future__ import annotations

import atexit
import gc
import os
import ssl
import sys
from functools import lru_cache

from claude_pipeline.garbage import no_search
from claude_pipeline.lane.reexport import touched_later

# What names the types of every message and error, and uses them where a span is recorded, a tool called, a refused
# message sent to another model, an error answered.
LATE = ("anthropic.lib._tracing.", "anthropic.lib.middleware.", "anthropic.lib.tools.", "anthropic._error_classes")


def load_sdk() -> None:
    """Import the SDK, so that an `import anthropic` after it costs nothing.

    What no client needs, of its packages and of some modules, is imported when it is touched; nothing of the SDK is missing.
    """
    if "anthropic" in sys.modules:
        return
    with no_search():  # many modules, and nothing of them is garbage
        try:
            with touched_later("anthropic", modules=LATE):
                import anthropic
        except Exception:  # an SDK that does not bear it is imported as it stands
            for name in [name for name in sys.modules if name.partition(".")[0] == "anthropic"]:
                del sys.modules[name]
            import anthropic  # noqa: F401
        gc.freeze()  # they live to the end of the process, with what it imported before: no later search goes through them
    atexit.register(gc.unfreeze)  # at its very end they are taken down as ever; DuckDB would report them as leaked


def trust(base_url: str | None) -> ssl.SSLContext:
    """Whom a client trusts: over https what httpx2 does, read once a process; over http nobody, for it asks nobody."""
    if (base_url or "https:").startswith("http:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return _trusted(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _trusted(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """Some hundred certificates; read again where the environment names others."""
    import httpx2

    return httpx2.create_ssl_context()
