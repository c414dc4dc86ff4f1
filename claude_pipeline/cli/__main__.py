"""`python -m claude_pipeline.cli`, as the installed `claude-pipeline`."""

from claude_pipeline.cli.console import console

console()
