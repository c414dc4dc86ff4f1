"""The simulator's own endpoints under `/_simulator`: clock, faults, invoice. They need no key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from claude_pipeline.simulator.api import Api
from claude_pipeline.simulator.clock import SECOND_US, microseconds, rfc3339
from claude_pipeline.simulator.fault import MOST_SECONDS, read_rules
from claude_pipeline.simulator.invoice import invoice, invoice_lines

_MOST_ADVANCE_SECONDS = MOST_SECONDS  # at once
_LAST_US = microseconds(datetime(9000, 1, 1, tzinfo=UTC))  # well before the calendar's end
_MOST_SPEED = 1_000_000  # simulated seconds per second


def admin_routes(api: Api) -> list[Route]:
    """GET invoice, invoice/lines, state, clock, faults; POST clock, limits, faults, reset; DELETE faults."""

    async def get_invoice(request: Request) -> Response:
        return _json(await to_thread.run_sync(invoice_of, api))

    async def get_lines(request: Request) -> Response:
        await to_thread.run_sync(api.settle_all)
        return StreamingResponse(invoice_lines(api.store), media_type="application/x-ndjson")

    async def get_state(request: Request) -> Response:
        return _json(await to_thread.run_sync(state_of, api))

    async def get_clock(request: Request) -> Response:
        return _json(_clock(api))

    async def post_clock(request: Request) -> Response:
        try:
            move_clock(api, orjson.loads(await request.body()))
        except ValueError as wrong:
            return _json({"error": str(wrong)}, 400)
        return _json(_clock(api))

    async def post_limits(request: Request) -> Response:
        try:
            return _json(change_limits(api, orjson.loads(await request.body())))
        except ValueError as wrong:
            return _json({"error": str(wrong)}, 400)

    async def get_faults(request: Request) -> Response:
        return _json(api.faults.as_json())

    async def post_faults(request: Request) -> Response:
        try:
            entries = orjson.loads(await request.body())
            rules = read_rules(entries if isinstance(entries, list) else [entries])
        except (ValueError, TypeError) as wrong:
            return _json({"error": str(wrong)}, 400)
        return _json([api.faults.put(rule).as_json() for rule in rules])

    async def delete_faults(request: Request) -> Response:
        api.faults.clear()
        return _json([])

    async def post_reset(request: Request) -> Response:
        await to_thread.run_sync(api.reset)
        return _json(state_of(api))

    return [
        Route("/_simulator/invoice", get_invoice, methods=["GET"]),
        Route("/_simulator/invoice/lines", get_lines, methods=["GET"]),
        Route("/_simulator/state", get_state, methods=["GET"]),
        Route("/_simulator/clock", get_clock, methods=["GET"]),
        Route("/_simulator/clock", post_clock, methods=["POST"]),
        Route("/_simulator/limits", post_limits, methods=["POST"]),
        Route("/_simulator/faults", get_faults, methods=["GET"]),
        Route("/_simulator/faults", post_faults, methods=["POST"]),
        Route("/_simulator/faults", delete_faults, methods=["DELETE"]),
        Route("/_simulator/reset", post_reset, methods=["POST"]),
    ]


def invoice_of(api: Api) -> dict[str, Any]:
    """The invoice as of now, after every batch that is due has been brought to its end."""
    api.settle_all()
    return invoice(api.store)


def state_of(api: Api) -> dict[str, Any]:
    """How many batches there are in which state, and where the clock stands."""
    api.settle_all()
    batches = api.store.batches("WHERE NOT deleted")
    running = [batch for batch in batches if batch.ended_us is None]
    return {
        "batches": len(batches),
        "in_progress": sum(batch.cancel_us is None for batch in running),
        "canceling": sum(batch.cancel_us is not None for batch in running),
        "ended": len(batches) - len(running),
        "requests_in_flight": sum(batch.size for batch in running),
        "next_end_at": rfc3339(min(batch.due_us for batch in running)) if running else None,
        "clock": _clock(api),
        "tier": api.limiter.tier.name,
        "seed": api.options.seed,
    }


def move_clock(api: Api, order: Any) -> None:
    """`{"advance_seconds": 60}`, `{"speed": 3600}`, `{"pause": true}`; several at once are done in this order.

    An order that is wrong in one part moves nothing.
    """
    if not isinstance(order, dict) or order.keys() - {"advance_seconds", "speed", "pause"}:
        raise ValueError("give a JSON object of advance_seconds, speed or pause")
    for name, most in (("advance_seconds", _MOST_ADVANCE_SECONDS), ("speed", _MOST_SPEED)):
        value = order.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ValueError(f"{name} is {value!r}; give a number from 0 to {most:,}: the clock only moves forward")
    if api.clock.now_us() + order.get("advance_seconds", 0) * SECOND_US > _LAST_US:
        raise ValueError(
            f"advance_seconds is {order['advance_seconds']!r}; the clock goes to {rfc3339(_LAST_US)} at most"
        )
    if not isinstance(order.get("pause", False), bool):
        raise ValueError(f"pause is {order['pause']!r}; give true or false")
    if "advance_seconds" in order:
        api.clock.advance(order["advance_seconds"])
    if "speed" in order:
        api.clock.speed = order["speed"]
    if "pause" in order:
        if order["pause"]:
            api.clock.pause()
        else:
            api.clock.resume()


def change_limits(api: Api, order: Any) -> dict[str, Any]:
    """`{"share": 0.5}`: of the tier's limits on messages, from now on; `"told": false`: and answers do not tell them."""
    if not isinstance(order, dict) or order.keys() - {"share", "told"}:
        raise ValueError("give a JSON object of share and told")
    share, told = order.get("share", 1.0), order.get("told", True)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ValueError(f"share is {share!r}; give a number above 0, at most 1: all of the tier's limits")
    if not isinstance(told, bool):
        raise ValueError(f"told is {told!r}; give true or false")
    api.limiter.change(share, told=told)
    return {"share": share, "told": told}


def _clock(api: Api) -> dict[str, Any]:
    return {"now": rfc3339(api.clock.now_us()), "speed": api.clock.speed, "paused": api.clock.paused}


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
