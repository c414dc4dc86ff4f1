"""The key and the address: where they come from, whether they may be used, and the SDK's clients over them.

The only module that sees the key. Both clients come with the SDK's retries (a lost answer may hide what
was paid), redirects (they would take the key elsewhere) and telemetry off, and its log keeps to INFO:
at DEBUG it writes each request's body, which are records.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from claude_pipeline.errors import KeyRefused, SettingInvalid
from claude_pipeline.lane.sdk import load_sdk, trust
from claude_pipeline.settings import is_loopback

if TYPE_CHECKING:
    import anthropic

MASK = "********"
SECRET_HEADERS = ("authorization", "x-api-key")
SECRET_LETTERS = 8  # what is shorter is no key, and would be found in every word
TALKATIVE = ("anthropic", "httpx2")
CONNECTIONS_MAX = 4096  # of the real-time lane; its queue holds back long before, and without a number aiohttp says 100
IDLE_SECONDS = 5.0  # then a connection is closed: a POST on one that the server gives up just then would be lost


def connect(environment: Mapping[str, str] | None = None) -> anthropic.Anthropic:
    """The SDK's client from the environment, for batches.

    Raises:
        KeyRefused: there is no key.
        SettingInvalid: the key or the base URL cannot be used.
    """
    arguments = _arguments(environment)
    load_sdk()
    import anthropic

    _keep_quiet()
    http = anthropic.DefaultHttpxClient(follow_redirects=False, verify=trust(arguments["base_url"]))
    return anthropic.Anthropic(**arguments, http_client=http)


def connect_async(environment: Mapping[str, str] | None = None) -> anthropic.AsyncAnthropic:
    """The SDK's asynchronous client over aiohttp, for the real-time lane; it belongs to one event loop. Raises as `connect`."""
    arguments = _arguments(environment)
    load_sdk()
    import anthropic
    import httpx2

    _keep_quiet()
    limits = httpx2.Limits(max_connections=CONNECTIONS_MAX, keepalive_expiry=IDLE_SECONDS)
    http = anthropic.DefaultAioHttpClient(follow_redirects=False, limits=limits, verify=trust(arguments["base_url"]))
    return anthropic.AsyncAnthropic(**arguments, http_client=http)


def check_access(key: str, base_url: str | None) -> None:
    """Whether key and address may be used at all, before anything is sent."""
    if not key:
        raise KeyRefused(
            "ANTHROPIC_API_KEY is not set; export it, or start `claude-pipeline simulate` and set the two variables "
            "it prints"
        )
    if key != key.strip():
        raise SettingInvalid(f"ANTHROPIC_API_KEY has white space around it (length {len(key)}); set it without")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingInvalid(
            f"ANTHROPIC_API_KEY holds white space or other than ASCII inside it (length {len(key)}); set it without, as the "
            "Console shows it"
        )
    try:
        parts = urlsplit(base_url or "https://")
    except ValueError:
        raise SettingInvalid(f"ANTHROPIC_BASE_URL is no URL: {base_url!r}") from None
    if parts.scheme not in {"http", "https"}:
        raise SettingInvalid(
            f"ANTHROPIC_BASE_URL must start with https:// (or http:// on this machine), got {base_url!r}"
        )
    if parts.scheme == "http" and not is_loopback(base_url or ""):
        raise SettingInvalid(
            f"ANTHROPIC_BASE_URL is http://{parts.hostname}: the key would travel in clear; use https://"
        )


def without_key(text: str, headers: Mapping[str, str]) -> str:
    """What the API, or whatever stands before it, says to a request with those headers: it may echo the key."""
    for name in SECRET_HEADERS:
        secret = headers.get(name, "").removeprefix("Bearer ").strip()
        if len(secret) >= SECRET_LETTERS:
            text = text.replace(secret, MASK)
    return text


def _keep_quiet() -> None:
    """After the SDK's import, which sets its loggers to what ANTHROPIC_LOG asks for."""
    for name in TALKATIVE:
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.INFO:
            logger.setLevel(logging.INFO)


def _arguments(environment: Mapping[str, str] | None) -> dict[str, Any]:
    env = os.environ if environment is None else environment
    key, base_url = env.get("ANTHROPIC_API_KEY", ""), env.get("ANTHROPIC_BASE_URL") or None
    check_access(key or env.get("ANTHROPIC_AUTH_TOKEN", ""), base_url)
    return {"api_key": key or None, "base_url": base_url, "max_retries": 0, "open_telemetry": False}
