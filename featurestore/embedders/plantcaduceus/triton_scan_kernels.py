"""Triton kernels of the selective scan and its gradient; :mod:`.triton_scan` launches them.

One program holds the states of one sequence and one block of channels in registers and goes
through time step by step: Mamba-1's decay differs by channel and state, so there is no matrix form,
and the work-optimal order is sequential in time and parallel in sequences and channels. A state
tensor lies as (n, channels), in the forward kernel one thread per channel, so that the sum over
states needs no exchange between threads. The next step's values are loaded before this step's
result is stored.

``state_stride`` is 1, unknown to the compiler: if it saw that the states of a channel lie side by
side it would spread them over threads for the one load of ``a``, and exchange values between
threads at every step.
"""
# ruff: noqa: ANN001, ANN201, ANN202, N803
# Triton reads annotations itself, older releases only as objects: no postponed evaluation here.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from typing import Final

import triton
import triton.language as tl

LOG2E: Final = tl.constexpr(1.4426950408889634)
LN2: Final = tl.constexpr(0.6931471805599453)


@triton.jit(do_not_specialize=["length", "state_stride"])
def forward(
    u_ptr, delta_ptr, a_ptr, b_ptr, c_ptr, d_ptr, y_ptr, length, channels, state_stride,
    N: tl.constexpr, NP: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip # Triton reads annotations as its own
    """``y`` (s, l, c) from ``u`` and ``delta`` (s, l, c), ``a`` (c, n), ``b`` and ``c`` (s, l, n), ``d`` (c,)."""
    blocks = tl.cdiv(channels, BLOCK_C)
    sequence = (tl.program_id(0) // blocks).to(tl.int64)
    ch = (tl.program_id(0) % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    n = tl.arange(0, NP)
    ok, real = ch < channels, n < N
    state = (ch[None, :] * N + n[:, None]) * state_stride
    a = tl.load(a_ptr + state, mask=ok[None, :] & real[:, None], other=0.0).to(tl.float32) * LOG2E
    d = tl.load(d_ptr + ch, mask=ok, other=0.0).to(tl.float32)
    h = tl.zeros([NP, BLOCK_C], dtype=tl.float32)
    row = sequence * length
    next_u = tl.load(u_ptr + row * channels + ch, mask=ok, other=0.0).to(tl.float32)
    next_delta = tl.load(delta_ptr + row * channels + ch, mask=ok, other=0.0).to(tl.float32)
    next_b = tl.load(b_ptr + row * N + n, mask=real, other=0.0).to(tl.float32)
    next_c = tl.load(c_ptr + row * N + n, mask=real, other=0.0).to(tl.float32)
    for t in range(length):
        u, delta, b, c = next_u, next_delta, next_b, next_c
        here = row + t
        ahead = row + tl.minimum(t + 1, length - 1)
        next_u = tl.load(u_ptr + ahead * channels + ch, mask=ok, other=0.0).to(tl.float32)
        next_delta = tl.load(delta_ptr + ahead * channels + ch, mask=ok, other=0.0).to(tl.float32)
        next_b = tl.load(b_ptr + ahead * N + n, mask=real, other=0.0).to(tl.float32)
        next_c = tl.load(c_ptr + ahead * N + n, mask=real, other=0.0).to(tl.float32)
        h = tl.exp2(delta[None, :] * a) * h + (delta * u)[None, :] * b[:, None]
        y = tl.sum(h * c[:, None], axis=0) + u * d
        tl.store(y_ptr + here * channels + ch, y.to(y_ptr.dtype.element_ty), mask=ok)


@triton.jit
def _advanced(h, u_ptr, delta_ptr, b_ptr, a, row, channels, ch, n, ok, real, N: tl.constexpr):
    """The state after one more step."""
    u = tl.load(u_ptr + row * channels + ch, mask=ok, other=0.0).to(tl.float32)
    delta = tl.load(delta_ptr + row * channels + ch, mask=ok, other=0.0).to(tl.float32)
    b = tl.load(b_ptr + row * N + n, mask=real, other=0.0).to(tl.float32)
    return tl.exp2(delta[None, :] * a) * h + (delta * u)[None, :] * b[:, None]


@triton.jit
def _write_chunk_states(
    u_ptr, delta_ptr, b_ptr, a, into_ptr, row, length, chunks, channels, size, ch, n, ok, real,
    N: tl.constexpr, NP: tl.constexpr, STEPS: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """The state in front of each chunk."""
    h = tl.zeros([NP, BLOCK_C], dtype=tl.float32)
    for k in range(chunks):
        tl.store(into_ptr + k * size, h, mask=ok[None, :])
        for t in range(k * STEPS, tl.minimum((k + 1) * STEPS, length)):
            h = _advanced(h, u_ptr, delta_ptr, b_ptr, a, row + t, channels, ch, n, ok, real, N)


@triton.jit(do_not_specialize=["length", "state_stride"])
def backward(
    grad_ptr, u_ptr, delta_ptr, a_ptr, b_ptr, c_ptr, d_ptr, saved_ptr, chunk_ptr,
    du_ptr, ddelta_ptr, da_ptr, db_ptr, dc_ptr, dd_ptr, length, channels, state_stride,
    N: tl.constexpr, NP: tl.constexpr, STEPS: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradients by everything, given ``grad`` by the result.

    ``saved`` (s, chunks, NP, c) and ``chunk`` (s, STEPS, NP, c) are work space. Parts to be summed
    by the caller: ``da`` (s, NP, c), ``dd`` (s, c), ``db`` and ``dc`` (s, blocks, l, n).
    """
    blocks = tl.cdiv(channels, BLOCK_C)
    sequence = (tl.program_id(0) // blocks).to(tl.int64)
    block = tl.program_id(0) % blocks
    ch = block * BLOCK_C + tl.arange(0, BLOCK_C)
    n = tl.arange(0, NP)
    ok, real = ch < channels, n < N
    state = (ch[None, :] * N + n[:, None]) * state_stride
    a = tl.load(a_ptr + state, mask=ok[None, :] & real[:, None], other=0.0).to(tl.float32) * LOG2E
    d = tl.load(d_ptr + ch, mask=ok, other=0.0).to(tl.float32)
    row = sequence * length
    chunks = tl.cdiv(length, STEPS)
    square = n[:, None] * channels + ch[None, :]  # one state, as it lies in saved and chunk
    size = NP * channels
    within = chunk_ptr + sequence * STEPS * size + square

    _write_chunk_states(
        u_ptr, delta_ptr, b_ptr, a, saved_ptr + sequence * chunks * size + square, row, length,
        chunks, channels, size, ch, n, ok, real, N, NP, STEPS, BLOCK_C,
    )  # fmt: skip
    tl.debug_barrier()  # what this program wrote is read below

    back = tl.zeros([NP, BLOCK_C], dtype=tl.float32)
    da = tl.zeros([NP, BLOCK_C], dtype=tl.float32)
    dd = tl.zeros([BLOCK_C], dtype=tl.float32)
    for k in range(chunks):
        start = (chunks - 1 - k) * STEPS
        stop = tl.minimum(start + STEPS, length)
        h = tl.load(
            saved_ptr + (sequence * chunks + chunks - 1 - k) * size + square,
            mask=ok[None, :], other=0.0,
        )  # fmt: skip
        for t in range(start, stop):
            tl.store(within + (t - start) * size, h, mask=ok[None, :])
            h = _advanced(h, u_ptr, delta_ptr, b_ptr, a, row + t, channels, ch, n, ok, real, N)
        tl.debug_barrier()
        for i in range(stop - start):
            t = stop - 1 - i
            at = (row + t) * channels + ch
            grad = tl.load(grad_ptr + at, mask=ok, other=0.0).to(tl.float32)
            u = tl.load(u_ptr + at, mask=ok, other=0.0).to(tl.float32)
            delta = tl.load(delta_ptr + at, mask=ok, other=0.0).to(tl.float32)
            b = tl.load(b_ptr + (row + t) * N + n, mask=real, other=0.0).to(tl.float32)
            c = tl.load(c_ptr + (row + t) * N + n, mask=real, other=0.0).to(tl.float32)
            carried = tl.exp2(delta[None, :] * a)
            earlier = tl.load(within + (t - start) * size, mask=ok[None, :], other=0.0) * carried
            driven = delta * u
            part = ((sequence * blocks + block) * length + t) * N + n
            h = earlier + driven[None, :] * b[:, None]
            tl.store(dc_ptr + part, tl.sum(h * grad[None, :], axis=1), mask=real)
            back += grad[None, :] * c[:, None]
            tl.store(db_ptr + part, tl.sum(back * driven[None, :], axis=1), mask=real)
            through = tl.sum(back * b[:, None], axis=0)
            du = grad * d + through * delta
            exponent = back * earlier
            ddelta = through * u + tl.sum(exponent * a, axis=0) * LN2
            tl.store(du_ptr + at, du.to(du_ptr.dtype.element_ty), mask=ok)
            tl.store(ddelta_ptr + at, ddelta.to(ddelta_ptr.dtype.element_ty), mask=ok)
            da += exponent * delta[None, :]
            dd += grad * u
            back *= carried
        tl.debug_barrier()
    tl.store(da_ptr + sequence * size + square, da, mask=ok[None, :])
    tl.store(dd_ptr + sequence * channels + ch, dd, mask=ok)
