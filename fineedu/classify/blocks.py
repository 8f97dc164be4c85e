"""Weights of an ONNX file in 4 bits: blocks of 32 numbers, each with a scale and a minimum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

BLOCK = 32
LEVELS = 15
#: ONNX Runtime's matrix product takes this code for zero where no other is given
MIDDLE = 8
#: the product multiplies in int8, with one scale for each block of 32 activations
INT8 = 4


def _steps(low: Weights, high: Weights) -> Weights:
    """Return what one code is worth in each block, as float16 can hold it; 1 where all numbers are the same."""
    scale = ((high - low) / LEVELS).astype(np.float16).astype(np.float32)
    return np.where(scale > 0, scale, np.float32(1))


def quantise(weights: Weights) -> tuple[Codes, Weights, Weights]:
    """Return codes from 0 to 15, scales and minima of blocks of the last axis: weight = minimum + scale · code.

    It is the layout of llama.cpp's Q4_1, so a checkpoint that was rounded to that comes through whole.

    Args:
        weights: …×k, k a multiple of 32.

    Returns:
        …×(k/32)×32 codes, …×(k/32) scales, …×(k/32) minima; scales and minima as float16 can hold them.
    """
    blocks = weights.reshape(*weights.shape[:-1], -1, BLOCK)
    low = blocks.min(-1).astype(np.float16).astype(np.float32)
    scale = _steps(low, blocks.max(-1))
    codes = np.clip(np.round((blocks - low[..., None]) / scale[..., None]), 0, LEVELS)
    return codes.astype(np.uint8), scale, low


def pairs(codes: Codes) -> Codes:
    """Return two codes a byte, the first of them in the lower half."""
    return np.bitwise_or(codes[..., ::2], np.left_shift(codes[..., 1::2], 4), dtype=np.uint8)


def pack(source: Path, target: Path) -> None:
    """Write an fp32 ONNX file anew with its matrix products and its embeddings in 4 bits.

    ONNX Runtime's products know whole numbers as zero points, and rounding Q4_1's minima to those costs as much as
    rounding the weights once more: vectors of eight SmolLM2 layers kept a correlation of .91 with fp32. So the minima
    come as a small product of their own, with the sums of the activations' blocks: .997, at 5 bits a weight in all.
    A table of embeddings has whole zero points, as nothing else is known for it.
    """
    import onnx

    model = onnx.load(str(source))
    packer = _Packer(model.graph)
    packer.run()
    # The first opset with numbers of 4 bits.
    for opset in model.opset_import:
        if opset.domain == "":
            opset.version = max(opset.version, 21)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    model.ir_version = 10
    onnx.save(model, str(target))


class _Packer:
    """Replaces nodes of a graph."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.weights = {found.name: found for found in graph.initializer}
        self.nodes: list[Any] = []
        #: inputs whose blocks are summed already: several products read the same
        self.summed: set[str] = set()
        self.replaced: set[str] = set()

    def run(self) -> None:
        """Rewrite the graph in place."""
        from onnx import numpy_helper

        for node in self.graph.node:
            name = {"MatMul": 1, "Gather": 0}.get(node.op_type)
            found = self.weights.get(node.input[name]) if name is not None else None
            if found is None or len(found.dims) != 2 or found.dims[node.op_type == "Gather"] % BLOCK:
                self.nodes.append(node)
                continue
            weights = numpy_helper.to_array(found).astype(np.float32)
            self.replaced.add(found.name)
            (self._product if node.op_type == "MatMul" else self._table)(node, found.name, weights)
        kept = [found for found in self.graph.initializer if found.name not in self.replaced]
        del self.graph.initializer[:], self.graph.node[:], self.graph.value_info[:]
        self.graph.initializer.extend(kept)
        self.graph.node.extend(self.nodes)

    def _constant(self, name: str, values: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _halves(self, name: str, values: Weights) -> str:
        """Store float16 and read float32: ONNX Runtime converts it once, on loading."""
        from onnx import TensorProto

        return self._add(
            "Cast", [self._constant(f"{name}_half", values.astype(np.float16))], name, to=TensorProto.FLOAT
        )

    def _sums(self, name: str, blocks: int) -> str:
        if name not in self.summed:
            self.summed.add(name)
            shape = self._constant(f"{name}_shape", np.array([0, 0, blocks, BLOCK], np.int64))
            axis = self._constant(f"{name}_axis", np.array([-1], np.int64))
            parts = self._add("Reshape", [name, shape], f"{name}_blocks")
            self._add("ReduceSum", [parts, axis], f"{name}_sums", keepdims=0)
        return f"{name}_sums"

    def _product(self, node: Any, name: str, weights: Weights) -> None:
        rows, columns = weights.shape
        codes, scale, low = quantise(weights.T)
        given, output = node.input[0], node.output[0]
        stored = self._constant(f"{name}_codes", pairs(codes))
        scales = self._halves(f"{name}_scales", scale.reshape(-1))
        main = self._add(
            "MatMulNBits", [given, stored, scales], f"{output}_main", domain="com.microsoft",
            K=rows, N=columns, bits=4, block_size=BLOCK, accuracy_level=INT8,
        )  # fmt: skip
        minima = self._halves(f"{name}_minima", (low + MIDDLE * scale).T)
        rest = self._add("MatMul", [self._sums(given, rows // BLOCK), minima], f"{output}_rest")
        self._add("Add", [main, rest], output)

    def _table(self, node: Any, name: str, weights: Weights) -> None:
        from onnx import TensorProto, helper

        blocks = weights.reshape(len(weights), -1, BLOCK)
        low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
        scale = _steps(low, high)
        zero = np.clip(np.round(-low / scale), 0, LEVELS)
        codes = np.clip(np.round(blocks / scale[..., None]) + zero[..., None], 0, LEVELS)
        for suffix, values in (("codes", codes.reshape(weights.shape)), ("zeros", zero)):
            # Two numbers a byte across the ends of rows: that is how ONNX stores its type of 4 bits.
            raw = pairs(np.append(values.reshape(-1), [0] * (values.size % 2)).astype(np.uint8)).tobytes()
            self.graph.initializer.append(
                helper.make_tensor(f"{name}_{suffix}", TensorProto.UINT4, list(values.shape), raw, raw=True)
            )
        inputs = [f"{name}_codes", node.input[1], self._halves(f"{name}_scales", scale), f"{name}_zeros"]
        self._add(
            "GatherBlockQuantized", inputs, node.output[0], domain="com.microsoft",
            gather_axis=0, quantize_axis=1, block_size=BLOCK,
        )  # fmt: skip
