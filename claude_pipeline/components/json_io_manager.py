"""How ops of one run hand each other small values: as JSON under the home, never as a pickle."""

import json
from pathlib import Path

import dagster as dg

from claude_pipeline.home import written
from claude_pipeline.settings import Settings


class JsonIOManager(dg.ConfigurableIOManager):
    """Keys and counts only: records, requests and results travel as files of their own."""

    home: str | None = None  # instead of CLAUDE_PIPELINE_HOME

    def _path(self, context: dg.OutputContext) -> Path:
        home = Settings.from_environment().with_home(Path(self.home) if self.home else None).home
        return home.dagster / "values" / Path(*context.get_identifier()).with_suffix(".json")

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        if obj is None:
            return
        with written(self._path(context)) as temporary:
            temporary.write_text(json.dumps(obj), encoding="utf-8")

    def load_input(self, context: dg.InputContext) -> object:
        assert context.upstream_output is not None
        return json.loads(self._path(context.upstream_output).read_text(encoding="utf-8"))
