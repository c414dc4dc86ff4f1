"""Dagster components of this package; `dg` finds `claude_pipeline.ClaudeWorkload` at the package root."""
