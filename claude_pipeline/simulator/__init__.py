"""A local Anthropic API: batches and messages with their own clock, faults on order, and an invoice.

    python -m claude_pipeline.simulator --speed 3600

It knows nothing of the rest of this project nor of the SDK: a wrong fact there meets a second
opinion here. README.md lists what is imitated, and from which source.
"""

from claude_pipeline.simulator.app import create_app
from claude_pipeline.simulator.options import Options
from claude_pipeline.simulator.server import Simulator, running, serve

__all__ = ["Options", "Simulator", "create_app", "running", "serve"]
