"""``python -m benchmarks.perf.triton_compile``: compiles the Triton kernels for GPUs that are not here.

Triton compiles to machine code without a GPU. That finds what its interpreter, which runs the
kernels on a CPU, cannot: types and operations that the compiler refuses, and registers that do not
suffice. It says nothing about speed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CAPABILITIES = (80, 90)
"""A100 and H100."""


@dataclass(frozen=True)
class Kernel:
    """A kernel, the types of its arguments and its constants, as a model of real size launches it."""

    name: str
    function: Any
    types: Mapping[str, str]
    constants: Mapping[str, int]
    warps: int


@dataclass(frozen=True)
class Compiled:
    """What one kernel takes on one kind of GPU.

    ``code`` is Triton's own last form of it, ``assembly`` what it was made into.
    """

    kernel: Kernel
    capability: int
    registers: int
    spilled_bytes: int
    code: str
    assembly: str


def _types(function: Any, pointers: Mapping[str, str], constants: Mapping[str, int]) -> dict[str, str]:  # fmt: skip
    """Pointers by name where they are not float32, integers for the rest, one float."""
    found = {}
    for name in function.arg_names:
        if name in constants:
            found[name] = "constexpr"
        elif name.endswith("_ptr"):
            found[name] = pointers.get(name, "*fp32")
        else:
            found[name] = "fp32" if name == "epsilon" else "i32"
    return found


def kernels(dtype: str) -> Iterator[Kernel]:
    """All kernels at l20's sizes; ``dtype`` ("fp32", "bf16", "fp16") is that of the products."""
    from featurestore.embedders.plantcaduceus import triton_layers as layers
    from featurestore.embedders.plantcaduceus import triton_scan_kernels as scan
    from featurestore.embedders.plantcaduceus.triton_inference import CONV_BLOCK, CONV_STEPS
    from featurestore.embedders.plantcaduceus.triton_scan import BLOCK, CHUNK

    typed = dict.fromkeys(
        ("x_ptr", "xz_ptr", "step_ptr", "bc_ptr", "u_ptr", "out_ptr"), f"*{dtype}"
    )
    state = {"N": 16, "NP": 16, "BLOCK_C": BLOCK}
    plan: list[tuple[Any, dict[str, str], dict[str, int], int]] = [
        (layers.add_norm, typed, {"WIDTH_P": 512}, 4),
        (layers.convolve, typed, {"STEPS": CONV_STEPS, "BLOCK_C": CONV_BLOCK}, 4),
        (layers.scan_both_ways, typed, {"NP": 16, "PER": 64, "BLOCK_C": BLOCK}, 1),
    ]
    if dtype == "fp32":
        plan += [(scan.forward, {}, state, 1), (scan.backward, {}, state | {"STEPS": CHUNK}, 1)]
    for function, pointers, constants, warps in plan:
        types = _types(function, pointers, constants)
        yield Kernel(f"{function.fn.__name__} {dtype}", function, types, constants, warps)


def compile_for(kernel: Kernel, capability: int) -> Compiled:
    """Compile one kernel; RuntimeError with the compiler's words if that fails."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    free = {"length", "rows", "state_stride"}  # compiled without knowledge of their values
    known = {
        (i,): [["tt.divisibility", 16]]
        for i, (name, kind) in enumerate(kernel.types.items())
        if name not in free and (kind == "i32" or kind.startswith("*"))
    }
    source = ASTSource(kernel.function, dict(kernel.types), dict(kernel.constants), known)
    made = triton.compile(
        source,
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": kernel.warps, "enable_fp_fusion": True},
    )
    registers, spilled = _resources(made.asm["cubin"])
    return Compiled(kernel, capability, registers, spilled, made.asm["ttgir"], made.asm["ptx"])


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers per thread and bytes of local memory, as the machine code states them."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        command = [str(tool), "-res-usage", str(path)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) \S+ LOCAL:(\d+)", said)
    assert found is not None, said
    return int(found[1]), int(found[2]) + int(found[3])


def main() -> None:
    """Compile everything and print what it takes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.perf.triton_compile", description=__doc__
    )
    parser.parse_args()
    print(f"{'kernel':<24} {'sm':>4} {'registers':>10} {'spilled bytes':>14}")
    for dtype in ("fp32", "bf16", "fp16"):
        for kernel in kernels(dtype):
            for capability in CAPABILITIES:
                made = compile_for(kernel, capability)
                print(f"{kernel.name:<24} {capability:>4} {made.registers:>10} {made.spilled_bytes:>14}")  # fmt: skip


if __name__ == "__main__":
    main()
