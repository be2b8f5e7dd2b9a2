"""Triton kernels of one layer at inference: norm, convolution, and scan with all that surrounds it.

Positions lie as rows, ``(sequence, position)`` flattened, channels within them. Both reading
directions are computed in place: the reverse one looks ahead and goes through time from the end,
so nothing is flipped. All arithmetic is in float32; tensors between kernels and matrix products
have the dtype of the products, where the plain form rounds as well. What the plain form does not
round is not rounded here: the scan computes its convolved input anew in float32 rather than
reading what the convolution kernel wrote for the projection.
"""
# ruff: noqa: ANN001, ANN201, ANN202, N803
# Triton reads annotations itself, older releases only as objects: no postponed evaluation here.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from typing import Final

import triton
import triton.language as tl

WIDTH: Final = 4
"""Taps of the convolution; narrower ones have zeros in front."""

LOG2E: Final = tl.constexpr(1.4426950408889634)


@triton.jit
def _silu(x):
    return x / (1.0 + tl.exp2(-x * LOG2E))


@triton.jit
def _softplus(x):
    """ln(1 + e^x); exact to a few roundings also where e^x is small (Kahan's log1p)."""
    e = tl.exp2(tl.minimum(x, 20.0) * LOG2E)
    whole = 1.0 + e
    small = whole == 1.0
    log1p = tl.where(small, e, tl.log(whole) * (e / tl.where(small, 1.0, whole - 1.0)))
    return tl.where(x > 20.0, x, log1p)


@triton.jit
def add_norm(
    x_ptr, residual_ptr, weight_ptr, out_ptr, epsilon, width, WIDTH_P: tl.constexpr
):  # fmt: skip
    """``residual += x`` in place and ``out = rms_norm(residual) * weight``; one row per program."""
    at = tl.arange(0, WIDTH_P)
    ok = at < width
    row = tl.program_id(0).to(tl.int64) * width
    x = tl.load(x_ptr + row + at, mask=ok, other=0.0).to(tl.float32)
    total = tl.load(residual_ptr + row + at, mask=ok, other=0.0) + x
    tl.store(residual_ptr + row + at, total, mask=ok)
    scale = 1.0 / tl.sqrt(tl.sum(total * total, axis=0) / width + epsilon)
    weight = tl.load(weight_ptr + at, mask=ok, other=0.0).to(tl.float32)
    tl.store(out_ptr + row + at, (total * scale * weight).to(out_ptr.dtype.element_ty), mask=ok)


@triton.jit(do_not_specialize=["rows", "length"])
def convolve(
    xz_ptr, taps_ptr, bias_ptr, u_ptr, length, channels, rows,
    STEPS: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Both directions' convolution and SiLU of the inner half of ``xz`` (rows, 2 c) → (2, rows, c).

    ``taps`` (2, 4, c), ``bias`` (2, c): forward, then reverse, which looks ahead.
    """
    blocks, times = tl.cdiv(channels, BLOCK_C), tl.cdiv(length, STEPS)
    block = tl.program_id(0) % blocks
    start = (tl.program_id(0) // blocks) % times * STEPS
    sequence = (tl.program_id(0) // (blocks * times)).to(tl.int64)
    ch = block * BLOCK_C + tl.arange(0, BLOCK_C)
    t = start + tl.arange(0, STEPS)
    ok = ch < channels
    forward = tl.zeros([STEPS, BLOCK_C], dtype=tl.float32)
    reverse = tl.zeros([STEPS, BLOCK_C], dtype=tl.float32)
    first = xz_ptr + sequence * length * (2 * channels)
    for k in tl.static_range(4):
        taps = tl.load(taps_ptr + k * channels + ch, mask=ok, other=0.0)
        at = t - 3 + k
        inside = (at >= 0) & (at < length)
        x = tl.load(
            first + at[:, None] * (2 * channels) + ch[None, :],
            mask=inside[:, None] & ok[None, :], other=0.0,
        )  # fmt: skip
        forward += x.to(tl.float32) * taps[None, :]
        taps = tl.load(taps_ptr + (4 + k) * channels + ch, mask=ok, other=0.0)
        at = t + 3 - k
        inside = at < length
        x = tl.load(
            first + at[:, None] * (2 * channels) + ch[None, :],
            mask=inside[:, None] & ok[None, :], other=0.0,
        )  # fmt: skip
        reverse += x.to(tl.float32) * taps[None, :]
    forward += tl.load(bias_ptr + ch, mask=ok, other=0.0)[None, :]
    reverse += tl.load(bias_ptr + channels + ch, mask=ok, other=0.0)[None, :]
    into = (sequence * length + t)[:, None] * channels + ch[None, :]
    mask = (t < length)[:, None] & ok[None, :]
    dtype = u_ptr.dtype.element_ty
    tl.store(u_ptr + into, _silu(forward).to(dtype), mask=mask)
    tl.store(u_ptr + rows.to(tl.int64) * channels + into, _silu(reverse).to(dtype), mask=mask)


@triton.jit
def _read(xz_ptr, step_ptr, bc_ptr, row, channels, ch, n, ok, NP: tl.constexpr, PER: tl.constexpr):
    """One position's inner value, raw step size, B and C."""
    x = tl.load(xz_ptr + row * (2 * channels) + ch, mask=ok, other=0.0).to(tl.float32)
    step = tl.load(step_ptr + row * channels + ch, mask=ok, other=0.0).to(tl.float32)
    b = tl.load(bc_ptr + row * PER + n).to(tl.float32)
    c = tl.load(bc_ptr + row * PER + NP + n).to(tl.float32)
    return x, step, b, c


@triton.jit
def _scan_one_way(
    xz_ptr, step_ptr, bc_ptr, taps_ptr, bias_ptr, a_ptr, y_ptr, out_ptr, row, length, channels,
    ch, ok, state_stride, NP: tl.constexpr, PER: tl.constexpr, REVERSE: tl.constexpr,
    BLOCK_C: tl.constexpr,
):  # fmt: skip
    n = tl.arange(0, NP)
    state = (n[:, None] * channels + ch[None, :]) * state_stride
    a = tl.load(a_ptr + state, mask=ok[None, :], other=0.0)
    tap0 = tl.load(taps_ptr + ch, mask=ok, other=0.0)
    tap1 = tl.load(taps_ptr + channels + ch, mask=ok, other=0.0)
    tap2 = tl.load(taps_ptr + 2 * channels + ch, mask=ok, other=0.0)
    tap3 = tl.load(taps_ptr + 3 * channels + ch, mask=ok, other=0.0)
    bias = tl.load(bias_ptr + ch, mask=ok, other=0.0)
    step_bias = tl.load(bias_ptr + 2 * channels + ch, mask=ok, other=0.0)
    d = tl.load(bias_ptr + 4 * channels + ch, mask=ok, other=0.0)
    h = tl.zeros([NP, BLOCK_C], dtype=tl.float32)
    x1 = tl.zeros([BLOCK_C], dtype=tl.float32)
    x2, x3 = x1, x1
    begin = row + (length - 1) * REVERSE
    next_x, next_step, next_b, next_c = _read(
        xz_ptr, step_ptr, bc_ptr, begin, channels, ch, n, ok, NP, PER
    )
    for i in range(length):
        x, step, b, c = next_x, next_step, next_b, next_c
        after = tl.minimum(i + 1, length - 1)
        here, ahead = row + i, row + after
        if REVERSE:
            here, ahead = row + length - 1 - i, row + length - 1 - after
        next_x, next_step, next_b, next_c = _read(
            xz_ptr, step_ptr, bc_ptr, ahead, channels, ch, n, ok, NP, PER
        )
        u = _silu(bias + x3 * tap0 + x2 * tap1 + x1 * tap2 + x * tap3)
        x3, x2, x1 = x2, x1, x
        delta = _softplus(step + step_bias)
        h = tl.exp2(delta[None, :] * a) * h + (delta * u)[None, :] * b[:, None]
        y = tl.sum(h * c[:, None], axis=0) + u * d
        if REVERSE:
            y += tl.load(y_ptr + here * channels + ch, mask=ok, other=0.0)
            z = tl.load(xz_ptr + here * (2 * channels) + channels + ch, mask=ok, other=0.0)
            gated = (y * _silu(z.to(tl.float32))).to(out_ptr.dtype.element_ty)
            tl.store(out_ptr + here * channels + ch, gated, mask=ok)
        else:
            tl.store(y_ptr + here * channels + ch, y, mask=ok)


@triton.jit(do_not_specialize=["rows", "length", "state_stride"])
def scan_both_ways(
    xz_ptr, step_ptr, bc_ptr, taps_ptr, bias_ptr, a_ptr, y_ptr, out_ptr, rows, length, channels,
    state_stride, NP: tl.constexpr, PER: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gated sum of both directions' scans; one sequence and block of channels per program.

    ``xz`` (rows, 2 c): inner values and gate; ``step`` (2, rows, c): step sizes before bias and
    softplus; ``bc`` (2, rows, PER): B, C, and what the step sizes came from; ``taps`` (2, 4, c);
    ``bias`` (3, 2, c): of the convolution, of the step size, and D; ``a`` (2, NP, c), times log2 e;
    ``y`` (rows, c) float32, the forward direction's result; ``out`` (rows, c).

    ``state_stride`` is 1, unknown to the compiler: if it saw that states of a channel or channels
    of a state lie side by side it would spread them over threads for the one load of ``a``, and
    exchange values between threads at every step.
    """
    blocks = tl.cdiv(channels, BLOCK_C)
    row = (tl.program_id(0) // blocks).to(tl.int64) * length
    ch = (tl.program_id(0) % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    ok = ch < channels
    _scan_one_way(
        xz_ptr, step_ptr, bc_ptr, taps_ptr, bias_ptr, a_ptr, y_ptr, out_ptr, row, length, channels,
        ch, ok, state_stride, NP, PER, False, BLOCK_C,
    )  # fmt: skip
    tl.debug_barrier()  # what the first direction wrote is read by the second
    half = rows.to(tl.int64)
    _scan_one_way(
        xz_ptr, step_ptr + half * channels, bc_ptr + half * PER, taps_ptr + 4 * channels,
        bias_ptr + channels, a_ptr + NP * channels, y_ptr, out_ptr, row, length, channels,
        ch, ok, state_stride, NP, PER, True, BLOCK_C,
    )  # fmt: skip
