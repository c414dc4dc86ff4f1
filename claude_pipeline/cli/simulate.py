"""`claude-pipeline simulate`: a local, simulated Anthropic API."""

from __future__ import annotations

import sys

import click


@click.command(
    "simulate",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Start a local, simulated Anthropic API: no key, no cost, its own clock."""
    from claude_pipeline.simulator.__main__ import main

    sys.exit(main(list(arguments), prog="claude-pipeline simulate"))
