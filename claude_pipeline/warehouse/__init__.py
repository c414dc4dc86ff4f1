"""The DuckDB file that analysts open."""

from claude_pipeline.warehouse.export import Copied, Format, copy_to, format_of
from claude_pipeline.warehouse.live import live_ops
from claude_pipeline.warehouse.named import named_parts
from claude_pipeline.warehouse.publish import Contents, build
from claude_pipeline.warehouse.read import connect, open_newest, query

__all__ = [
    "Contents",
    "Copied",
    "Format",
    "build",
    "connect",
    "copy_to",
    "format_of",
    "live_ops",
    "named_parts",
    "open_newest",
    "query",
]
