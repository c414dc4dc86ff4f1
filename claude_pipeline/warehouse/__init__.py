"""The DuckDB file that analysts open."""

from claude_pipeline.warehouse.named import named_parts
from claude_pipeline.warehouse.publish import Contents, build, copy_to
from claude_pipeline.warehouse.read import connect, query

__all__ = ["Contents", "build", "connect", "copy_to", "named_parts", "query"]
