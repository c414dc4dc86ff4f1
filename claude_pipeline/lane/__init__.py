"""The ways to get answers; only this floor knows the `anthropic` SDK."""
