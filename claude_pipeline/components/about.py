"""What people read about a workload's assets before they open anything: the prompt, owners, kinds, tags."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from claude_pipeline.components.key import WORKLOAD_TAG
from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.markdown import code, plain
from claude_pipeline.workload import Workload

PROMPT_CHARACTERS = 4_000
# What each asset is made of or by, as an icon in the graph.
KINDS = {
    "requests": {"parquet"},
    "batches": {"claude"},
    "results": {"claude", "parquet"},
    "merged": {"parquet", "table"},
    "summary": {"report"},
    "dead_letters": {"parquet"},
}


def question(workload: Workload) -> str:
    """The models, the system prompt and the prompt, as Markdown; whatever they hold stays text."""
    try:
        prompt = workload.template()
    except ClaudePipelineError as error:  # said again, as a failure, by whoever materializes it
        return f"Asked of {_models(workload)}.\n\n{plain(str(error))}"
    said = [f"Asked of {_models(workload)}, at most {workload.max_tokens:,} tokens each:"]
    if workload.system is not None:
        said += ["**System prompt**", _fenced(workload.system)]
    said += ["**Prompt**", _fenced(prompt, "jinja")]
    if workload.output is not None:
        said.append(f"Answers become the columns {', '.join(map(code, workload.output['properties']))}.")
    return "\n\n".join(said)


def _models(workload: Workload) -> str:
    return " and ".join(workload.models)


def _fenced(text: str, language: str = "text") -> str:
    """Code, in a fence longer than any within it."""
    shown = text if len(text) <= PROMPT_CHARACTERS else f"{text[:PROMPT_CHARACTERS]}…"
    fence = "```"
    while fence in shown:
        fence += "`"
    return f"{fence}{language}\n{shown.strip()}\n{fence}"


def told(workload: Workload, assets: Sequence[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The assets with who answers for them, what they are, and the tag by which a workload is found."""

    def complete(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(
            owners=list(workload.owners),
            kinds=KINDS[spec.key.path[-1]],
            tags={**spec.tags, WORKLOAD_TAG: workload.name},
        )

    return [asset.map_asset_specs(complete) for asset in assets]
