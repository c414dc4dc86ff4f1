"""Which records of two batches are the same, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_BITS = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}

Mask = npt.NDArray[np.bool_]


def is_comparable(kind: pa.DataType) -> bool:
    """False of floating numbers within lists and structs: Arrow takes 0.0 there for -0.0."""
    return not pa.types.is_nested(kind) or not _holds_floating(kind)


def alike(new: pa.RecordBatch, old: pa.RecordBatch, names: Sequence[str]) -> Mask:
    """Of two batches with as many rows, those whose comparable columns of these names hold the same, in the same type."""
    mask = np.ones(new.num_rows, np.bool_)
    for name in names:
        _compare(new.column(name), old.column(name), mask)
    return mask


def _compare(new: pa.Array, old: pa.Array, mask: Mask) -> None:
    """Clear the mask where two columns differ."""
    if new.type != old.type:
        mask[:] = False
        return
    if pa.types.is_floating(new.type):  # by their bits: 0.0 and -0.0 are equal, and print otherwise
        bits = _BITS[new.type.bit_width]
        new, old = new.view(bits), old.view(bits)
    if new.equals(old):
        return
    if pa.types.is_nested(new.type) or pa.types.is_interval(new.type):
        _halve(new, old, mask)
        return
    both_null = pc.and_(pc.is_null(new), pc.is_null(old))
    mask &= np.asarray(pc.or_(pc.fill_null(pc.equal(new, old), False), both_null))


def _halve(new: pa.Array, old: pa.Array, mask: Mask) -> None:
    """Arrow compares such values as wholes only: what differs is looked for in ever smaller parts."""
    if len(new) == 1:
        mask[:] = False
        return
    middle = len(new) // 2
    for part in (slice(0, middle), slice(middle, len(new))):
        count = part.stop - part.start
        mine, its = new.slice(part.start, count), old.slice(part.start, count)
        if not mine.equals(its):
            _halve(mine, its, mask[part])


def _holds_floating(kind: pa.DataType) -> bool:
    if pa.types.is_map(kind):
        return _holds_floating(kind.key_type) or _holds_floating(kind.item_type)
    if pa.types.is_nested(kind):
        return any(_holds_floating(kind.field(number).type) for number in range(kind.num_fields))
    return bool(pa.types.is_floating(kind))
