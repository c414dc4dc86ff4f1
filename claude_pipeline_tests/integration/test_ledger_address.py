"""A ledger on a server that cannot be used: a sentence, and never the password."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.errors import LedgerUnreachable, SettingInvalid
from claude_pipeline.home import Home
from claude_pipeline.ledger import Ledger
from claude_pipeline.settings import Settings
from claude_pipeline_tests.postgresql import PASSWORD, Server


@pytest.fixture
def ledger_url(postgresql_server: Server) -> Iterator[str]:
    with postgresql_server.database() as url:
        yield url


AWAY: list[Any] = [
    pytest.param(lambda url: url.replace(url.split("@")[1].split("/")[0], "127.0.0.1:9"), "gave no answer", id="no-server"),
    pytest.param(lambda url: url.replace(PASSWORD, f"{PASSWORD}-no"), "password authentication failed", id="password"),
    pytest.param(lambda url: url + "_no", "does not exist", id="no-such-database"),
    pytest.param(lambda url: url.replace(f":{PASSWORD}", "") + f"_no?password={PASSWORD}", "not exist", id="in-query"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "sentence"), AWAY)
def test_a_server_that_cannot_be_used_is_named_without_its_password(
    ledger_url: str, tmp_path: Path, changed: Callable[[str], str], sentence: str
) -> None:
    with pytest.raises(LedgerUnreachable, match=sentence) as away:
        Ledger.open(changed(ledger_url), path=tmp_path / "ledger.db")
    assert PASSWORD not in "".join(traceback.format_exception(away.value))
    assert PASSWORD not in repr(Settings(Home(tmp_path), ledger_url=ledger_url))


@pytest.mark.parametrize(
    "url", ["postgresql://u:CANARY@CANARY@127.0.0.1/db", "postgresql://u:CANARY@127.0.0.1:CANARY/db"]
)
def test_an_address_that_would_show_a_part_of_the_password_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="CLAUDE_PIPELINE_LEDGER_URL") as refused:
        Ledger.open(url, path=tmp_path / "ledger.db")
    assert "CANARY" not in "".join(traceback.format_exception(refused.value))


def test_a_user_who_may_make_no_tables_is_told_so(ledger_url: str, tmp_path: Path, postgresql_server: Server) -> None:
    postgresql_server.sql("CREATE ROLE reader LOGIN PASSWORD 'reader'")
    try:
        url = f"postgresql://reader:reader@{ledger_url.split('@')[1]}"
        with pytest.raises(LedgerUnreachable, match="permission denied for schema public; its user must own"):
            Ledger.open(url, path=tmp_path / "ledger.db")
    finally:
        postgresql_server.sql("DROP ROLE reader")


def test_the_command_line_says_in_one_line_that_its_ledger_is_away(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "claude_pipeline.cli", "status", "--home", str(tmp_path / "home")],
        env=os.environ | {"CLAUDE_PIPELINE_LEDGER_URL": f"postgresql://u:{PASSWORD}@127.0.0.1:9/db"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
    assert done.stderr.startswith(
        "claude-pipeline: the ledger at postgresql+psycopg://u:***@127.0.0.1:9/db gave no answer"
    )
    assert PASSWORD not in done.stderr
