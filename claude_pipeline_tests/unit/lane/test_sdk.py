"""The SDK is loaded without a search for garbage, and whom a client trusts is read once a process."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

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


def test_what_no_client_needs_waits_until_it_is_touched() -> None:
    code = """
import sys
from claude_pipeline.lane.sdk import load_sdk
load_sdk()
import anthropic
client = anthropic.Anthropic(api_key="a key")
assert "anthropic.lib.bedrock._client" not in sys.modules
assert "anthropic.types.message" not in sys.modules
assert anthropic.AnthropicBedrock.__module__ == "anthropic.lib.bedrock._client"
assert client.messages.batches.create and client.beta.messages.batches.create
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_an_sdk_that_does_not_bear_it_is_imported_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "anthropic").mkdir()
    (tmp_path / "anthropic" / "__init__.py").write_text(
        "from .one import One\nimport sys\nassert 'anthropic.one' in sys.modules\n", encoding="utf-8"
    )
    (tmp_path / "anthropic" / "one.py").write_text("class One: pass\n", encoding="utf-8")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from claude_pipeline.lane.sdk import load_sdk
load_sdk()
assert sys.modules["anthropic"].__dict__["One"].__module__ == "anthropic.one"
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


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
