"""Tokens of the requests to be sent, by the best that is known.

input     a fit on this workload's own past results, else count_tokens on a sample, else results under another
          prompt or of another model, else characters per token by script (rough)
output    a fit on past results, else those of another model, else the output schema, else max_tokens
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from claude_pipeline.cache import HIT_RATE, choose
from claude_pipeline.catalog import Model
from claude_pipeline.output_schema import enforceable
from claude_pipeline.plan import (
    ROUGH_SHARE,
    Bin,
    CacheMix,
    Estimate,
    Interval,
    Line,
    Load,
    Method,
    Moments,
    Sized,
    may_think,
    output_by_max_tokens,
    output_by_schema,
    predict,
    with_unseen,
)
from claude_pipeline.request import RequestMaker
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.past import Past, Results
from claude_pipeline.stage.sample import Counts, Sample, Wait, draw, take
from claude_pipeline.workload import Workload

RESULTS_LEAST = 20  # fewer past results are not fitted
BINS_PER_DOUBLING = 4  # of sizes, for bands of prices
# Doubts beyond what a sample shows, as shares of the expected value.
NEW_DATA = 0.02  # past results are of other records
COUNT_IS_ESTIMATE = 0.01  # the API says that its count is one
OTHER_TEMPLATE = 0.15
OTHER_TOKENIZER = 0.10
SAME_TOKENIZER = 0.02
OTHER_MODELS_ANSWERS = 0.30  # how long another model's answers are
HIT_RATES = (0.98, 0.30)  # best and worst of the prompt cache in batches
MEASURED = (Method.PAST_RESULTS, Method.COUNT_TOKENS)


@dataclass
class Estimator:
    """Estimates for one workload's requests in the table `wanted` of `duck`."""

    desk: Desk
    workload: Workload  # of one model
    duck: Any
    records: Path
    maker: RequestMaker
    past: Past
    per_minute: int | None  # count_tokens
    wait: Wait | None  # None: offline
    calls: int = 0
    problem: str | None = None
    _counts: Counts = field(init=False)

    def __post_init__(self) -> None:
        self._counts = Counts(self.desk.home.token_counts(self.workload.name))

    def size(self) -> Sized:
        """The load of the workload's model, with its tokens."""
        model = self.desk.catalog.model(self.workload.model)
        load = load_of(self.duck, self.workload.model)
        results = self.past.same.get(model.id, Results())
        price = self.desk.catalog.price(model.id, self.desk.clock())
        tokens_in = self._input(model, load, results)
        found = Sized(load, model, price, tokens_in, self._output(model, load))
        if results.answers >= RESULTS_LEAST:
            doubt = results.billed_doubt(load.requests)
            mix, around = results.cache_mix(self.workload), Interval(0.0, -doubt, doubt)
            return replace(found, cache=mix, billed_share=results.billed_share, doubt=around)
        choice = choose(self.workload, model, load.requests)
        if not choice.on:
            return found
        mix, around = expected_cache(choice.prefix_tokens, load.requests, tokens_in.tokens.expected)
        return replace(found, cache=mix, doubt=around)

    def _input(self, model: Model, load: Load, results: Results) -> Estimate:
        if results.answers >= RESULTS_LEAST:
            return _fitted(results.inputs, load, NEW_DATA, f"a fit on {results.answers:,} past results")
        rows = draw(self.duck, self.workload.model, self._counts.fingerprints)
        sample = take(
            self.desk, self.records, self.maker, rows, self._counts, model, per_minute=self.per_minute, wait=self.wait
        )
        self.calls += sample.calls
        self.problem = sample.problem
        if sample.counted:
            basis = f"count_tokens on a sample of {len(sample.counted):,}"
            return _sampled(sample.counted, load, Method.COUNT_TOKENS, COUNT_IS_ESTIMATE, basis)
        return self._input_elsewhere(model, load) or self._input_by_script(sample, load)

    def _input_elsewhere(self, model: Model, load: Load) -> Estimate | None:
        """From results under another template, or of another model."""
        for source, doubt in ((self.past.same, 0.0), (self.past.other, OTHER_TEMPLATE)):
            for name, results in source.items():
                if results.answers >= RESULTS_LEAST:
                    of = self.desk.catalog.model(name)
                    factor, more = self.conversion(of, model)
                    basis = f"a fit on {results.answers:,} past results {'under another prompt' if doubt else f'of {of.id}'}"
                    found = _fitted(results.inputs, load, NEW_DATA + doubt, basis, Method.OTHER_RESULTS)
                    return found.converted(factor, f"x {factor:.2g} for its tokenizer", more) if factor != 1 else found
        return None

    def _input_by_script(self, sample: Sample, load: Load) -> Estimate:
        basis = f"rough: characters per token by script, on a sample of {len(sample.rough):,}"
        return _sampled(sample.rough, load, Method.CHARACTERS, ROUGH_SHARE, basis)

    def _output(self, model: Model, load: Load) -> Estimate:
        most = load.requests * self.workload.max_tokens
        for name, results in sorted(self.past.same.items(), key=lambda item: item[0] != model.id):
            if results.answers >= RESULTS_LEAST:
                own = name == model.id
                # Answers that ended at an older max_tokens would be longer now: how much, nobody knows.
                share_cut = results.cut / results.answers
                basis = f"a fit on {results.answers:,} past results{'' if own else f' of {name}'}"
                doubt = NEW_DATA if own else OTHER_MODELS_ANSWERS
                found = _fitted(
                    results.outputs, load, doubt, basis, Method.PAST_RESULTS if own else Method.OTHER_RESULTS
                )
                tokens = with_unseen(found.tokens, results.answers, load.requests, self.workload.max_tokens)
                tokens = tokens.within(load.requests, most)
                upper = max(tokens.high, share_cut * most) if share_cut > 0.02 else tokens.high
                return Estimate(Interval(tokens.expected, tokens.low, upper), found.line, found.method, basis)
        return self._output_unseen(model, load)

    def _output_unseen(self, model: Model, load: Load) -> Estimate:
        workload = self.workload
        if workload.output is not None:
            per = float(self.desk.catalog.limits.characters_per_token["latin"])
            if model.new_tokenizer is False:
                per *= float(self.desk.catalog.limits.new_tokenizer_factor)
            thinks = may_think(model.capabilities.thinking_accepted, workload.params)
            schema: Mapping[str, Any] = enforceable(workload.output)
            merged = {**schema, "properties": workload.output["properties"]}  # with the bounds that the API drops
            one = output_by_schema(merged, characters_per_token=per, max_tokens=workload.max_tokens, thinks=thinks)
            method, basis = Method.OUTPUT_SCHEMA, "from the output's schema; a pilot would tell better"
        else:
            one = output_by_max_tokens(workload.max_tokens)
            method = Method.MAX_TOKENS
            basis = f"free text of at most {workload.max_tokens:,} tokens, a guess; a pilot would tell"
        return Estimate(one.times(load.requests), Line(one.expected, 0.0, 0.0), method, basis)

    def conversion(self, of: Model, to: Model) -> tuple[float, float]:
        """How many times as many tokens a text has for another model, and the doubt about it."""
        factor = float(self.desk.catalog.limits.new_tokenizer_factor)
        match of.new_tokenizer, to.new_tokenizer:
            case True, False:
                return 1 / factor, OTHER_TOKENIZER
            case False, True:
                return factor, OTHER_TOKENIZER
        return 1.0, SAME_TOKENIZER

    def instead(self, sized: Sized, model: Model) -> Sized:
        """The same requests, asked of another model."""
        own = self.past.same.get(model.id, Results())
        factor, doubt = self.conversion(sized.model, model)
        because = f"assumed alike for {model.id}" if factor == 1 else f"x {factor:.2g} for {model.id}'s tokenizer"
        tokens_in = sized.tokens_in.converted(factor, because, doubt)
        tokens_out = sized.tokens_out.converted(factor, because, OTHER_MODELS_ANSWERS)
        if own.answers >= RESULTS_LEAST:
            basis = f"a fit on {own.answers:,} past results"
            tokens_in = _fitted(own.inputs, sized.load, NEW_DATA, basis)
            tokens_out = _fitted(own.outputs, sized.load, NEW_DATA, basis)
        price = self.desk.catalog.price(model.id, self.desk.clock())
        return replace(sized, model=model, price=price, tokens_in=tokens_in, tokens_out=tokens_out)


def expected_cache(prefix_tokens: int, requests: int, tokens: float) -> tuple[CacheMix, Interval]:
    """Shares of the input that will be written to the prompt cache and read from it, and how far the cost may be off."""
    prefix = min(prefix_tokens * requests / max(tokens, 1.0), 1.0)
    read = prefix * HIT_RATE * (requests - 1) / requests
    # In input prices: a read 0.1 at most, a 1-hour write 2. The documentation says 30 % to 98 % are read.
    usual, best, worst = (1 - prefix + prefix * (0.1 * hit + 2 * (1 - hit)) for hit in (HIT_RATE, *HIT_RATES))
    return CacheMix(prefix - read, read), Interval(0.0, best / usual - 1, worst / usual - 1)


def load_of(duck: Any, model: str) -> Load:
    """The sizes of a model's requests in `wanted`, in bins of about equal ones."""
    found = duck.execute(
        f"""SELECT count(*), sum(size_bytes)::BIGINT, max(size_bytes) FROM wanted WHERE model = ?
            GROUP BY floor(log2(greatest(size_bytes, 1)) * {BINS_PER_DOUBLING}) ORDER BY 3""",
        [model],
    ).fetchall()
    return Load(model, tuple(Bin(n, size) for n, size, _ in found), max((largest for *_, largest in found), default=0))


def _fitted(
    groups: list[Moments], load: Load, doubt: float, basis: str, method: Method = Method.PAST_RESULTS
) -> Estimate:
    line, tokens = predict(groups, load.requests, load.size_bytes)
    return Estimate(tokens.widened(doubt), line, method, basis)


def _sampled(pairs: list[tuple[int, Any]], load: Load, method: Method, doubt: float, basis: str) -> Estimate:
    line, tokens = predict([Moments.of(pairs)], load.requests, load.size_bytes)
    return Estimate(tokens.widened(doubt), line, method, basis)
