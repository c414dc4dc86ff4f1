"""The command line. Each command stands in a module of its own, imported when it is called, so that
`--help` costs no import of Dagster, pydantic or rich."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from claude_pipeline.errors import ClaudePipelineError

# name: what it does; the module of that name holds the command.
COMMANDS = {
    "demo": "Show the whole journey on sample data, against the simulator.",
    "plan": "Say what a workload would cost and how long it would take; spends nothing.",
    "run": "Run a workload to its end, without a daemon.",
    "status": "Say what is on its way, what it cost, what failed.",
    "report": "Write what came of a workload as a page that opens anywhere.",
    "metrics": "Serve the ledger's figures for Prometheus.",
    "retry": "Ask dead letters again, all or by reason.",
    "cancel": "Cancel a snapshot, here and at the API.",
    "resume": "Go on after a stop of the account (key, credit, spend limit).",
    "publish": "Publish the warehouse again, or copy it to a file.",
    "reconcile": "Settle batches whose creation was never answered; rebuild a restored ledger.",
    "doctor": "Check that everything is in place; says what mends what is not.",
    "catalog": "Show models, prices, tiers and limits, with source and date.",
    "backup": "Copy the ledger while it works.",
    "prune": "Remove what is past its retention.",
    "simulate": "Start a local, simulated Anthropic API.",
    "ui": "Open the Dagster UI on this home.",
}


class Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"claude_pipeline.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="claude-pipeline", prog_name="claude-pipeline")
def cli() -> None:
    """Run Claude over whole tables: half price, no row lost, none paid twice.

    Exit codes: 0 done, also when Ctrl-C ends what has no end of its own (`status --watch`, `metrics`);
    1 done, but records are dead letters or rejected; 2 wrong use or input;
    3 stopped (budget, key, account); 4 interrupted, run again.
    """


def _of_the_disk(error: BaseException | None) -> str | None:
    """What the system said where a file, or a database of Dagster's, could not be written; None for other errors."""
    import errno
    import sqlite3

    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return os.strerror(error.errno)
        if isinstance(error, sqlite3.OperationalError) and "disk" in str(error):
            return str(error)  # "disk I/O error", "database or disk is full"
        error = error.__cause__ or error.__context__
    return None


def main() -> None:
    """The entry point: our errors become one sentence and an exit code, never a stack trace."""
    try:
        cli(standalone_mode=False)
    except ClaudePipelineError as error:
        click.echo(f"claude-pipeline: {error}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.Abort:
        click.echo("claude-pipeline: interrupted; run it again, it carries on", err=True)
        sys.exit(4)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except KeyboardInterrupt:
        click.echo("claude-pipeline: interrupted; run it again, it carries on", err=True)
        sys.exit(4)
    except Exception as error:
        if os.environ.get("CLAUDE_PIPELINE_DEBUG"):
            raise
        if (word := _of_the_disk(error)) is not None:
            click.echo(
                f"claude-pipeline: {word}: make room on the disk of the home, then run it again; nothing is lost",
                err=True,
            )
            sys.exit(4)
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            click.echo(
                f"claude-pipeline: {error.filename}: {error.strerror}; name another place, or mend this one", err=True
            )
            sys.exit(2)
        # Not the message: one of another library may carry a record's text.
        click.echo(
            f"claude-pipeline: {type(error).__name__}, which is not foreseen; CLAUDE_PIPELINE_DEBUG=1 shows where. "
            "Nothing is lost: run it again",
            err=True,
        )
        sys.exit(1)
