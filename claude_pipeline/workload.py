"""What a user asks for: a dataset, a prompt, a model and limits, checked before anything runs.

`Workload` is the one schema of a workload: the YAML file, the Dagster component, the command
line and Python all pass through it. Unknown fields are refused with the nearest known one; fields
that the design names but this version does not yet carry out are refused with "not yet".
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from claude_pipeline.cadence import FINENESS, Cadence, cadence_of
from claude_pipeline.errors import WorkloadInvalid, quoted_value
from claude_pipeline.model_choice import Level, Route
from claude_pipeline.model_choice import problem_of as choice_problem_of
from claude_pipeline.output_schema import problem_of
from claude_pipeline.param import problem_of as param_problem_of
from claude_pipeline.prompt_file import read_prompt_file
from claude_pipeline.sendable import key_in
from claude_pipeline.sendable import problem_of as unsendable
from claude_pipeline.whereabouts import found

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
OWNER = re.compile(r"team:.+|[a-zA-Z0-9_.+-]+@[a-zA-Z0-9-]+\.[a-zA-Z0-9-.]+")  # as Dagster checks it; a test compares
RESERVED_NAMES = frozenset(
    {"ops", "main", "temp", "system", "information_schema", "pg_catalog", "warehouse", "broken_workload"}
)
REQUESTS_PER_BATCH_MAX = 100_000  # also in catalog/limits.yaml, with its source; a unit test compares
BYTES_PER_BATCH_MAX = 256_000_000  # likewise
NOT_YET = {
    "samples": "several answers to one prompt",
}


def _off(value: Any) -> Any:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


def _no_truth(value: Any) -> Any:
    """Pydantic would take a bare `yes` for 1."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, got {str(value).lower()}")
    return value


Number = Annotated[float, BeforeValidator(_no_truth)]
HOURS_MAX = 24 * 366  # of a deadline
FIRST_DAY = date(2000, 1, 1)  # of partitions


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=False, allow_inf_nan=False)


class Dataset(_Strict):
    """Where the records come from: `path`, or `sql` with an optional `database` URL."""

    path: str | None = Field(
        None, min_length=1, description="A file, a glob or a folder of CSV, JSONL or Parquet files."
    )
    sql: str | None = Field(None, description="A query: DuckDB's SQL, or that of `database`.")
    database: str | None = Field(None, description="SQLAlchemy URL in which `sql` runs; without it DuckDB runs it.")
    id: str | None = Field(None, description="Column that names a record; without it a digest of its content does.")
    watermark: str | None = Field(
        None,
        min_length=1,
        exclude_if=lambda value: value is None,  # else every workload's code version would change
        description="Column whose value only grows: a snapshot holds what is newer than the snapshots before it.",
    )
    format: Literal["csv", "jsonl", "parquet"] | None = Field(
        None, description="Only where the file's name does not say."
    )
    encoding: str = Field("utf-8", description="Of CSV and JSONL files.")
    delimiter: str = Field(",", min_length=1, max_length=1, description="Of CSV files.")
    compression: Literal["gzip", "zstd", "bz2"] | None = Field(None, description="Only where the name does not say.")
    allow_empty: bool = Field(False, description="Let a dataset without records pass.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.sql is None):
            raise ValueError("give either path: or sql:, exactly one of them")
        if self.database is not None and self.sql is None:
            raise ValueError("database: needs sql:, the query to run in it")
        if self.watermark is not None and self.id is None:
            raise ValueError("watermark: needs id:, which tells records with an equal watermark apart")
        if self.watermark == "record_id":
            raise ValueError("watermark: record_id is the name under which ids are kept, as text; rename the column")
        return self


class Chunk(_Strict):
    """How many requests, and how many bytes of them, make one batch at most."""

    requests: int = Field(10_000, ge=1, le=REQUESTS_PER_BATCH_MAX, strict=True)
    bytes: int = Field(250_000_000, ge=1_000, lt=BYTES_PER_BATCH_MAX, strict=True)


class Retention(_Strict):
    """How long what is no longer needed is kept all the same."""

    days: int | None = Field(30, ge=0, le=36_500, strict=True, description="Of raw results and params; null: for ever.")


class Workload(_Strict):
    """One workload. See `data/README.md` and the README for the fields as a user writes them."""

    name: str = Field(description="Lower case letters, digits and _; names its assets and its schema in the warehouse.")
    dataset: Dataset
    model: str = Field("", description="A model's id or alias, as `claude-haiku-5-5`; empty with route or cascade.")
    route: tuple[Route, ...] | None = Field(None, description="Instead of `model`: which model by SQL over the record.")
    cascade: tuple[Level, ...] | None = Field(None, description="Instead of `model`: who is asked first, who next.")
    gives_up_when: str | None = Field(
        None, description="SQL over an answer's columns: true passes its record to the cascade's next model."
    )
    prompt: str | None = Field(None, description="Jinja template over the record's columns.")
    prompt_file: str | None = Field(None, description="The template in a file beside the YAML, instead of `prompt`.")
    system: str | None = Field(None, description="System prompt, sent as it is with each request.")
    max_tokens: int = Field(1024, ge=1, strict=True)
    params: dict[str, Any] = Field(default_factory=dict, description="Further params of the Messages API.")
    output: dict[str, Any] | None = Field(None, description="JSON Schema of an object: the answer becomes columns.")
    labels: str | None = Field(None, description="The records' column with the right answer, to measure by.")
    label_of: str | None = Field(
        None, description="The output's property that `labels` is about; the first by default."
    )
    score: str | None = Field(
        None, description="SQL over record and answer: whether the answer is good, to measure by."
    )
    lane: Literal["batch", "realtime", "auto"] = Field(
        "auto", description="`auto` picks for you: the batch lane, at half price, where the deadline lets it."
    )
    deadline_hours: Number = Field(24, gt=0, le=HOURS_MAX, description="From planning a snapshot to its answers.")
    sla_warn_share: Number = Field(
        0.75, gt=0, lt=1, description="Share of a batch's 24 h after which people are told that it still runs."
    )
    chunk: Chunk = Field(default_factory=lambda: Chunk.model_validate({}))
    budget_usd: Annotated[Number, Field(gt=0)] | None = Field(None, description="No snapshot may cost more than this.")
    budget_usd_per_day: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="All its snapshots together may cost no more than this on a UTC day."
    )
    budget_reserve: Literal["worst", "expected"] = Field(
        "worst",
        description="What a chunk in flight counts for at a wall: its upper bound, or the upper end of its estimate.",
    )
    cache: Annotated[
        Literal["off", "auto"], BeforeValidator(_off), WithJsonSchema({"enum": ["off", "auto", False]})
    ] = Field(
        "off", description="`auto` fills the prompt cache with one request before the others, where that can pay."
    )
    max_rounds: int = Field(3, ge=1, le=10, strict=True, description="How often a record may be asked at most.")
    reuse: bool = Field(True, description="Keep answers to equal questions from earlier snapshots.")
    max_reject_ratio: Number = Field(
        0.01, ge=0, le=1, description="Share of unusable records above which nothing is sent."
    )
    retention: Retention = Field(default_factory=lambda: Retention.model_validate({}))
    schedule: str | None = Field(None, description="Cron; each tick materializes a snapshot.")
    partition: Cadence | None = Field(None, description="Of snapshots; from `schedule`, daily where there is none.")
    timezone: str = "UTC"
    start_date: date = Field(date(2026, 1, 1), ge=FIRST_DAY)
    owners: tuple[str, ...] = Field((), description="Who answers for it: e-mail addresses, or teams as `team:support`.")

    _source: Path | None = PrivateAttr(None)

    @field_validator("name")
    @classmethod
    def _name_is_safe(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} must match [a-z][a-z0-9_]{{0,62}}, as in 'support_tickets'")
        if name in RESERVED_NAMES:
            raise ValueError(f"{name!r} is a name of the product itself, as of the warehouse's schemas; choose another")
        return name

    @field_validator("owners")
    @classmethod
    def _owners_are_dagsters(cls, owners: tuple[str, ...]) -> tuple[str, ...]:
        for owner in owners:
            if not OWNER.fullmatch(owner):
                raise ValueError(f"{owner!r} is neither an e-mail address nor a team, as in 'team:support'")
        return owners

    @field_validator("system")
    @classmethod
    def _system_is_constant(cls, system: str | None) -> str | None:
        if system is not None and ("{{" in system or "{%" in system):
            raise ValueError("is sent as it is, it holds no columns: put {{ … }} into prompt:")
        if system is not None and not system.strip():
            raise ValueError("is blank; leave it out")
        return system

    @field_validator("params")
    @classmethod
    def _params_fit_a_batch(cls, params: dict[str, Any]) -> dict[str, Any]:
        problem = param_problem_of(params)
        if problem is not None:
            raise ValueError(problem)
        return params

    @field_validator("prompt", "system", "params", "output")
    @classmethod
    def _is_sendable(cls, value: Any) -> Any:
        problem = unsendable(value)
        if problem is not None:
            raise ValueError(problem)
        return value

    @field_validator("output")
    @classmethod
    def _output_is_an_object(cls, output: dict[str, Any] | None) -> dict[str, Any] | None:
        problem = problem_of(output) if output is not None else None
        if problem is not None:
            raise ValueError(problem)
        return output

    @field_validator("timezone")
    @classmethod
    def _timezone_exists(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{timezone!r} is no time zone; write one as 'Europe/Berlin'") from None
        return timezone

    @field_validator("schedule")
    @classmethod
    def _schedule_is_cron(cls, schedule: str | None) -> str | None:
        if schedule is not None and cadence_of(schedule) is None:
            raise ValueError(f"{schedule!r} is no cron line of five fields, as in '0 2 * * *'")
        return schedule

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if (self.prompt is None) == (self.prompt_file is None):
            raise ValueError("give either prompt: or prompt_file:, exactly one of them")
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError("prompt: is blank")
        problem = choice_problem_of(self.model, self.route, self.cascade, self.gives_up_when)
        if problem is not None:
            raise ValueError(problem)
        properties = list(self.output["properties"]) if self.output is not None else []
        if self.label_of is not None and (self.labels is None or self.label_of not in properties):
            raise ValueError(
                "label_of: names the property of output: that labels: is about; give both, or leave it out"
            )
        if self.output is not None and "output_config" in self.params and "format" in self.params["output_config"]:
            raise ValueError("output: and params.output_config.format ask for two formats; keep output:")
        if self.partition and self.schedule:
            own = cadence_of(self.schedule)
            if own is not None and FINENESS.index(self.partition) < FINENESS.index(own):
                raise ValueError(f"partition: {self.partition} is finer than the schedule, which ticks {own}")
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """Every model it may ask, each once, in the order of route or cascade."""
        named = [entry.model for entry in self.route or self.cascade or ()] or [self.model]
        return tuple(dict.fromkeys(named))

    @property
    def variants(self) -> tuple[Workload, ...]:
        """The workload once for each of its models, as if that were its only one."""
        return tuple(self.asking(model) for model in self.models)

    def asking(self, model: str) -> Workload:
        """The same workload with `model` alone, and the max_tokens that a cascade gives that one."""
        own = next((level.max_tokens for level in self.cascade or () if level.model == model), None)
        only = {"model": model, "route": None, "cascade": None, "gives_up_when": None}
        return self.model_copy(update={**only, "max_tokens": own or self.max_tokens})

    @property
    def cadence(self) -> Cadence:
        """How long one snapshot partition is."""
        return self.partition or (cadence_of(self.schedule) if self.schedule else None) or "daily"

    @property
    def source(self) -> Path | None:
        """The YAML file it came from; relative paths start at its folder."""
        return self._source

    def at(self, source: Path) -> Workload:
        """The same workload, read from `source`."""
        copy = self.model_copy()
        copy._source = source.resolve()
        return copy

    def find(self, path: str) -> Path:
        """A path as the user wrote it, made absolute: beside the YAML first, then the project root."""
        return found(path, self._source, place=self.place)

    def template(self) -> str:
        """The prompt's template, from the YAML or from `prompt_file`.

        Raises:
            WorkloadInvalid: the file is missing, empty or not UTF-8.
        """
        if self.prompt is not None:
            return self.prompt
        assert self.prompt_file is not None
        return read_prompt_file(self.find(self.prompt_file), place=self.place)

    @property
    def place(self) -> str:
        return str(self._source) if self._source else f"workload {self.name}"

    @property
    def template_place(self) -> str:
        """Where the prompt's template stands."""
        return str(self.find(self.prompt_file)) if self.prompt_file is not None else f"{self.place}: prompt"

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], *, source: Path | None = None) -> Workload:
        """Check a mapping as the YAML's `attributes:` holds it.

        Raises:
            WorkloadInvalid: names the field, what is wrong and what would be right.
        """
        place = str(source) if source else f"workload {attributes.get('name', '?')}"
        for field, purpose in NOT_YET.items():
            if field in attributes:
                raise WorkloadInvalid(f"{field}: not yet: {purpose} is not in this version; leave it out", place=place)
        held = key_in(attributes)
        if held is not None and held.lower() not in KEY_FIELDS:
            raise WorkloadInvalid(
                f"{held}: holds an API key; take it out, and revoke it: the key is read from ANTHROPIC_API_KEY only",
                place=place,
            )
        try:
            workload = cls.model_validate(dict(attributes))
        except ValidationError as error:
            raise WorkloadInvalid("; ".join(explain(error)), place=place) from None
        return workload.at(source) if source else workload


KEY_FIELDS = frozenset({"api_key", "apikey", "key", "anthropic_api_key"})


def explain(error: ValidationError) -> list[str]:
    """One sentence for each thing wrong, each with its field."""
    sentences = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        match problem["type"]:
            case "extra_forbidden":
                sentences.append(f"unknown field {where}{_nearest(problem['loc'])}")
            case "missing":
                sentences.append(f"{where}: is missing")
            case "value_error":
                sentences.append(": ".join(filter(None, (where, str(problem["ctx"]["error"])))))
            case "model_type" | "model_attributes_type" | "dict_type":
                hint = {"dataset": " as {path: data.csv}", "chunk": " as {requests: 500}"}.get(where, "")
                sentences.append(f"{where}: must be a mapping{hint}")
            case "string_type" if not isinstance(problem["input"], dict | list):
                sentences.append(f"{where}: input should be a valid string, got {problem['input']!r}; quote it")
            case "tuple_type":
                sentences.append(f"{where}: must be a list, as in [a, b]")
            case _:
                given = "" if isinstance(problem["input"], dict | list) else f", got {quoted_value(problem['input'])}"
                sentences.append(f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}{given}")
    return sentences


def _or_known(near: Sequence[str], known: Iterable[str]) -> str:
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


def _nearest(location: tuple[int | str, ...]) -> str:
    inner: dict[str, type[BaseModel]] = {"dataset": Dataset, "chunk": Chunk, "route": Route, "cascade": Level}
    schema = inner.get(str(location[0]), Workload) if len(location) > 1 else Workload
    known = list(schema.model_fields)
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.6)
    if str(location[-1]).lower() in KEY_FIELDS:
        return ": the key is read from ANTHROPIC_API_KEY only, never from a file"
    return f" ({_or_known(near, known)})"
