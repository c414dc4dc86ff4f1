"""The SDK is loaded without a search for garbage, and whom a client trusts is read once a process."""

from __future__ import annotations

import ssl
import subprocess
import sys

import pytest

from claude_pipeline.lane.sdk import trust


def test_it_is_imported_without_a_search_for_garbage() -> None:
    code = """
import gc, sys
from claude_pipeline.lane.sdk import load_sdk
searches = []
gc.callbacks.append(lambda phase, info: searches.append(phase))
load_sdk()
sys.exit(len(searches) if "anthropic" in sys.modules else -1)
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0


def test_over_https_certificates_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    first = trust("https://api.anthropic.com")
    assert trust(None) is first
    assert first.verify_mode is ssl.CERT_REQUIRED
    assert first.check_hostname


def test_over_http_nobody_is_trusted() -> None:
    context = trust("http://127.0.0.1:8000")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.get_ca_certs() == []
