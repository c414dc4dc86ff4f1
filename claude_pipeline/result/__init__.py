"""Result rows: their columns, how raw lines become them, and how they meet the records again."""

from claude_pipeline.result.answer_index import AnswerIndex, are_distinct, fingerprint_file, prints_of
from claude_pipeline.result.answered import write_answered
from claude_pipeline.result.asked import AskedFacts
from claude_pipeline.result.measure import Measure
from claude_pipeline.result.output import OutputReader
from claude_pipeline.result.parse import Parsed, parse_results
from claude_pipeline.result.place import FailedChunk, MergeInput
from claude_pipeline.result.rest import write_rest
from claude_pipeline.result.row import PAID_PERHAPS
from claude_pipeline.result.schema import (
    answered_where,
    attempts_schema,
    check_names,
    comments_of,
    good_where,
    merged_schema,
    output_fields,
    own_names,
)

__all__ = [
    "PAID_PERHAPS",
    "AnswerIndex",
    "AskedFacts",
    "FailedChunk",
    "Measure",
    "MergeInput",
    "OutputReader",
    "Parsed",
    "answered_where",
    "are_distinct",
    "attempts_schema",
    "check_names",
    "comments_of",
    "fingerprint_file",
    "good_where",
    "merged_schema",
    "output_fields",
    "own_names",
    "parse_results",
    "prints_of",
    "write_answered",
    "write_rest",
]
