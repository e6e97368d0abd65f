"""Register tiles of the direct convolution, written as LLVM IR (imports Numba: load lazily).

A tile of the result stays in registers over a whole sum; no loop in Python gets LLVM to keep it
there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import extending, types

_intrinsic: Any = extending.intrinsic
_AVX512 = bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
LANES = 16 if _AVX512 else 8
PLACES = 24 if _AVX512 else 12
ROWS, COLUMNS = 6, PLACES // 6

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_F32, LANES)
_UNDEFINED = ir.Constant(_VECTOR, ir.Undefined)


def _data(context: Any, builder: Any, signature: Any, args: Any, index: int) -> Any:
    """Pointer to the first element of the Numba array that is argument `index`."""
    return context.make_array(signature.args[index])(context, builder, args[index]).data


def _at(builder: Any, pointer: Any, *terms: Any) -> Any:
    """Pointer moved on by the sum of `terms`, each an integer value or a Python int."""
    for term in terms:
        pointer = builder.gep(pointer, [_I64(term) if isinstance(term, int) else term])
    return pointer


def _load(builder: Any, pointer: Any) -> Any:
    """A vector from an unaligned pointer to float."""
    return builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _store(builder: Any, vector: Any, pointer: Any) -> None:
    builder.store(vector, builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _splat(builder: Any, pointer: Any) -> Any:
    """A vector with the float at `pointer` in every lane."""
    one = builder.insert_element(_UNDEFINED, builder.load(pointer), _I32(0))
    mask = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    return builder.shuffle_vector(one, _UNDEFINED, mask)


def _vector_function(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """The LLVM function `name` over vectors of LANES floats."""
    name = f"{name}.v{LANES}f32"
    found = builder.module.globals.get(name)
    return found or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def _multiply_add(builder: Any, a: list[Any], b: list[Any], sums: list[Any]) -> list[Any]:
    """`sums[i, j] + a[i] * b[j]` for all pairs, `sums` being row-major."""
    fma = _vector_function(builder, "llvm.fma", _VECTOR, [_VECTOR] * 3)
    pairs = [(x, y) for x in a for y in b]
    return [builder.call(fma, [x, y, s]) for (x, y), s in zip(pairs, sums, strict=True)]


def _loop(builder: Any, count: Any, carried: list[Any], body: Callable) -> list[Any]:
    """`for i in range(count): carried = body(i, carried)` for `count` > 0."""
    before = builder.block
    block, after = builder.append_basic_block("body"), builder.append_basic_block("after")
    builder.branch(block)
    builder.position_at_end(block)
    index = builder.phi(_I64)
    phis = [builder.phi(value.type) for value in carried]
    results = body(index, phis)
    following = builder.add(index, _I64(1))
    starts, ends = [_I64(0), *carried], [following, *results]
    for phi, start, end in zip([index, *phis], starts, ends, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(end, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), block, after)
    builder.position_at_end(after)
    return results


def _channel_tile(run: int) -> Any:
    """Intrinsic for LANES channels at PLACES places that come in runs of `run` neighbours.

    Only where a run begins is kept in a register; processors have fewer of those than there are places.
    """

    @_intrinsic
    def tile(
        typing: Any,
        buffer: Any,
        places: Any,
        first: Any,
        offsets: Any,
        count: Any,
        weight: Any,
        w_at: Any,
        start: Any,
        s_at: Any,
        s_step: Any,
        out: Any,
        out_at: Any,
    ) -> Any:
        """`out[p] = start[p] + sum over t < count of weight[t] * read`.

        `read` is `buffer[places[first + p] + offsets[t]]`; rows of `weight` and `out` have LANES floats.
        """
        parameters = (buffer, places, first, offsets, count, weight, w_at, start, s_at, s_step, out, out_at)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, where, off, w, s, y = (_data(context, builder, signature, args, k) for k in (0, 1, 3, 5, 7, 10))
            chosen = [builder.load(_at(builder, where, args[2], p)) for p in range(0, PLACES, run)]
            lines = [_at(builder, x, place) for place in chosen]
            steps = [builder.mul(args[9], _I64(p)) for p in range(PLACES)]
            sums = [_load(builder, _at(builder, s, args[8], step)) for step in steps]
            w = _at(builder, w, args[6])

            def term(t: Any, sums: list[Any]) -> list[Any]:
                offset = builder.load(_at(builder, off, t))
                row = _load(builder, _at(builder, w, builder.mul(t, _I64(LANES))))
                runs = [_at(builder, line, offset) for line in lines]
                reads = [_splat(builder, _at(builder, runs[p // run], p % run)) for p in range(PLACES)]
                return _multiply_add(builder, reads, [row], sums)

            for p, total in enumerate(_loop(builder, args[4], sums, term)):
                _store(builder, total, _at(builder, y, args[11], p * LANES))
            return context.get_dummy_value()

        return types.void(*parameters), codegen

    return tile


single_places, pairs, triples, fours, eights = (_channel_tile(run) for run in (1, 2, 3, 4, 8))


def _position_tile(vectors: int) -> Any:
    """Intrinsic for ROWS channels at `vectors` runs of LANES positions."""

    @_intrinsic
    def tile(
        typing: Any,
        buffer: Any,
        starts: Any,
        first: Any,
        offsets: Any,
        weight: Any,
        w_at: Any,
        bias: Any,
        b_at: Any,
        out: Any,
        out_step: Any,
    ) -> Any:
        """`out[r, p] = bias[r] + sum over t of weight[t, r] * buffer[p + offsets[t]]`."""
        parameters = (buffer, starts, first, offsets, weight, w_at, bias, b_at, out, out_step)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, where, off, w, b, y = (_data(context, builder, signature, args, k) for k in (0, 1, 3, 4, 6, 8))
            taps = context.make_array(signature.args[3])(context, builder, args[3]).nitems
            chosen = [builder.load(_at(builder, where, args[2], v)) for v in range(vectors)]
            lines = [_at(builder, x, place) for place in chosen]
            sums = [_splat(builder, _at(builder, b, args[7], r)) for r in range(ROWS) for _ in range(vectors)]
            w = _at(builder, w, args[5])

            def term(t: Any, sums: list[Any]) -> list[Any]:
                offset = builder.load(_at(builder, off, t))
                runs = [_load(builder, _at(builder, line, offset)) for line in lines]
                row = _at(builder, w, builder.mul(t, _I64(ROWS)))
                scales = [_splat(builder, _at(builder, row, r)) for r in range(ROWS)]
                return _multiply_add(builder, scales, runs, sums)

            totals = _loop(builder, taps, sums, term)
            for r in range(ROWS):
                row = _at(builder, y, builder.mul(args[9], _I64(r)))
                for v in range(vectors):
                    _store(builder, totals[r * vectors + v], _at(builder, row, chosen[v]))
            return context.get_dummy_value()

        return types.void(*parameters), codegen

    return tile


many_positions, few_positions = _position_tile(COLUMNS), _position_tile(1)


@_intrinsic
def gradient_tile(
    typing: Any,
    g: Any,
    g_at: Any,
    g_step: Any,
    buffer: Any,
    offsets: Any,
    first: Any,
    starts: Any,
    count: Any,
    out: Any,
    out_at: Any,
    out_step: Any,
) -> Any:
    """ROWS channels by COLUMNS taps: `out[r, c] += sum over positions of g[r, p] * buffer[p +
    o[c]]`.

    The positions are `count` runs of LANES from `starts` on.
    """
    parameters = (g, g_at, g_step, buffer, offsets, first, starts, count, out, out_at, out_step)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        grad, x, off, where, y = (_data(context, builder, signature, args, k) for k in (0, 3, 4, 6, 8))
        reads = [builder.load(_at(builder, off, args[5], c)) for c in range(COLUMNS)]
        reads = [_at(builder, x, offset) for offset in reads]
        steps = [builder.mul(args[2], _I64(r)) for r in range(ROWS)]
        lines = [_at(builder, grad, args[1], step) for step in steps]

        def term(index: Any, sums: list[Any]) -> list[Any]:
            p = builder.load(_at(builder, where, index))
            rows = [_load(builder, _at(builder, line, p)) for line in lines]
            columns = [_load(builder, _at(builder, read, p)) for read in reads]
            return _multiply_add(builder, rows, columns, sums)

        zeros = [ir.Constant(_VECTOR, [0.0] * LANES)] * (ROWS * COLUMNS)
        totals = _loop(builder, args[7], zeros, term)
        add = _vector_function(builder, "llvm.vector.reduce.fadd", _F32, [_F32, _VECTOR])
        for r in range(ROWS):
            row = _at(builder, y, args[9], builder.mul(args[10], _I64(r)))
            for c in range(COLUMNS):
                to = _at(builder, row, c)
                parts = [builder.load(to), totals[r * COLUMNS + c]]
                builder.store(builder.call(add, parts, fastmath=("reassoc",)), to)
        return context.get_dummy_value()

    return types.void(*parameters), codegen


def _move(lanes: int) -> Any:
    """Intrinsic that copies `lanes` floats."""

    @_intrinsic
    def move(
        typing: Any,
        source: Any,
        source_at: Any,
        target: Any,
        target_at: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = ir.VectorType(_F32, lanes).as_pointer()
            x = _at(builder, _data(context, builder, signature, args, 0), args[1])
            y = _at(builder, _data(context, builder, signature, args, 2), args[3])
            value = builder.load(builder.bitcast(x, vector), align=4)
            builder.store(value, builder.bitcast(y, vector), align=4)
            return context.get_dummy_value()

        return types.void(source, source_at, target, target_at), codegen

    return move


move_many, move_4 = _move(LANES), _move(4)


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of LANES vectors, by exchanging halves, then quarters, and so on."""
    index = ir.VectorType(_I32, LANES)
    distance = LANES // 2
    while distance:
        low = [k if not k & distance else k - distance + LANES for k in range(LANES)]
        high = [k + distance if not k & distance else k + LANES for k in range(LANES)]
        for k in range(LANES):
            if not k & distance:
                pair = rows[k], rows[k + distance]
                rows[k] = builder.shuffle_vector(*pair, ir.Constant(index, low))
                rows[k + distance] = builder.shuffle_vector(*pair, ir.Constant(index, high))
        distance //= 2
    return rows


@_intrinsic
def transpose_tile(
    typing: Any,
    source: Any,
    source_at: Any,
    source_step: Any,
    target: Any,
    target_at: Any,
    target_step: Any,
) -> Any:
    """Copy LANES by LANES floats, rows becoming columns; rows are `..._step` floats apart."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x = _at(builder, _data(context, builder, signature, args, 0), args[1])
        y = _at(builder, _data(context, builder, signature, args, 3), args[4])
        steps = [[builder.mul(args[a], _I64(k)) for k in range(LANES)] for a in (2, 5)]
        rows = [_load(builder, _at(builder, x, step)) for step in steps[0]]
        for row, step in zip(_transposed(builder, rows), steps[1], strict=True):
            _store(builder, row, _at(builder, y, step))
        return context.get_dummy_value()

    return types.void(source, source_at, source_step, target, target_at, target_step), codegen
