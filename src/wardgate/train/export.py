"""Writes the built-in encoder as one ONNX file: int8 matrix products, 4-bit word embeddings.

The graph is written by hand rather than traced, so that it holds exactly the operators that ONNX Runtime runs
fast on a CPU: among them `MatMulNBits`, `MultiHeadAttention` and `Gelu` of its contrib set.
Inputs: `ids` int64 (batch, length) and `mask` int32 (batch, length), 1 for tokens. Outputs: `logits` float32
(batch, labels), and of a head over several layers `acts` float32 (batch, acts), the logits of `guards.encoder.ACTS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wardgate.guards.encoder import ACTS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from wardgate.train.encoder_model import EncoderGuardModel, LayerHead

_BLOCK = 32
_CONTRIB = "com.microsoft"


def q4_blocks(weight: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Quantise rows in blocks of 32 as ggml's Q4_0 does: value = (nibble - 8) * scale, scale = extreme / -8.

    A matrix that was Q4_0 before comes back unchanged.

    Args:
        weight: *Shape:* (rows, columns), columns a multiple of 32.

    Returns:
        Nibbles, two to a byte (column j low, column j + columns/2 high), *shape* (rows, columns / 2); and
        scales, *shape* (rows, columns / 32).
    """
    rows, columns = weight.shape
    blocks = weight.reshape(rows, columns // _BLOCK, _BLOCK)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
    scale = (extreme / -8).astype(np.float16)
    divisor = np.where(scale == 0, 1, scale).astype(np.float32)[..., None]
    nibbles = np.clip(np.rint(blocks / divisor) + 8, 0, 15).astype(np.uint8).reshape(rows, columns)
    half = columns // 2
    return nibbles[:, :half] | (nibbles[:, half:] << 4), scale


class _Graph:
    """Collects nodes and weights under fresh names."""

    def __init__(self, *, quantised: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.quantised = quantised

    def weight(self, name: str, value: NDArray[np.generic]) -> str:
        self.weights.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def node(self, kind: str, inputs: list[str], *, domain: str = "", out: str = "", **attributes: Any) -> str:
        out = out or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], domain=domain, **attributes))
        return out

    def linear(self, x: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        """X @ weight + bias; weight has shape (inputs, outputs)."""
        b = self.weight(f"{name}.bias", bias.astype(np.float32))
        if not self.quantised:
            return self.node("Add", [self.node("MatMul", [x, self.weight(f"{name}.weight", weight)]), b])
        # Blocks along the inputs, in weights and activations alike: a text's scores then do not depend on what it
        # is batched with. One scale for a whole batch (DynamicQuantizeMatMul) is 1.8 times as fast, and moved
        # probabilities by up to 0.6.
        k, n = weight.shape
        block = 64 if k % 64 == 0 else _BLOCK
        blocks = weight.T.reshape(n, k // block, block)
        scale = np.maximum(np.abs(blocks).max(-1), 1e-8) / 127
        q = (np.clip(np.rint(blocks / scale[..., None]), -127, 127) + 128).astype(np.uint8)
        inputs = [x, self.weight(f"{name}.q", q), self.weight(f"{name}.scale", scale.astype(np.float32).ravel())]
        sizes = {"K": k, "N": n, "bits": 8, "block_size": block, "accuracy_level": 4}
        return self.node("MatMulNBits", [*inputs, "", "", b], domain=_CONTRIB, **sizes)


def export_onnx(model: EncoderGuardModel, path: Path, *, quantised: bool = True, head: LayerHead | None = None) -> None:
    """Write the model.

    Args:
        model: a fine-tuned model.
        path: where to write.
        quantised: int8 matrix products and 4-bit embeddings; False keeps float32 (for comparing).
        head: instead of the model's own.
    """
    state = {k: v.detach().cpu().float().numpy() for k, v in model.state_dict().items()}
    config: Any = model.base.config
    graph = _Graph(quantised=quantised)
    states = [_embedded(graph, state, config.layer_norm_eps)]
    for layer in range(config.num_hidden_layers):
        states.append(_layer(graph, state, f"base.encoder.layer.{layer}", states[-1], config))
    if head is None:
        [mean] = _means(graph, states[-1:])
        product = graph.node("MatMul", [mean, graph.weight("head.weight", state["head.weight"].T)])
        graph.node("Add", [product, graph.weight("head.bias", state["head.bias"])], out="logits")
    else:
        _layer_head(graph, head, _means(graph, [states[i] for i in head.layers]))
    outputs = {"logits": state["head.bias"].shape[0]} | ({} if head is None else {"acts": len(ACTS)})
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "wardgate-encoder",
            [
                helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"]),
                helper.make_tensor_value_info("mask", TensorProto.INT32, ["batch", "length"]),
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n]) for name, n in outputs.items()],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(_CONTRIB, 1)],
        producer_name="wardgate",
        ir_version=10,
    )
    onnx.save(proto, path)


def _embedded(graph: _Graph, state: dict[str, NDArray[np.float32]], epsilon: float) -> str:
    prefix = "base.embeddings"
    words = state[f"{prefix}.word_embeddings.weight"]
    positions = state[f"{prefix}.position_embeddings.weight"] + state[f"{prefix}.token_type_embeddings.weight"][:1]
    word = _q4_rows(graph, words) if graph.quantised else graph.node("Gather", [graph.weight("words", words), "ids"])
    length = graph.node("Gather", [graph.node("Shape", ["ids"]), graph.weight("one", np.array(1, dtype=np.int64))])
    zero, step = graph.weight("zero", np.array(0, dtype=np.int64)), graph.weight("step", np.array(1, dtype=np.int64))
    position_ids = graph.node("Range", [zero, length, step])
    stored = graph.weight("positions", positions.astype(np.float16 if graph.quantised else np.float32))
    position = graph.node("Cast", [graph.node("Gather", [stored, position_ids])], to=TensorProto.FLOAT)
    return _norm(graph, f"{prefix}.LayerNorm", state, graph.node("Add", [word, position]), epsilon)


def _q4_rows(graph: _Graph, words: NDArray[np.float32]) -> str:
    packed, scale = q4_blocks(words)
    columns = words.shape[1]
    rows = graph.node("Gather", [graph.weight("words.q4", packed), "ids"])
    low = graph.node("BitwiseAnd", [rows, graph.weight("fifteen", np.array(15, dtype=np.uint8))])
    high = graph.node("BitShift", [rows, graph.weight("four", np.array(4, dtype=np.uint8))], direction="RIGHT")
    nibbles = graph.node("Cast", [graph.node("Concat", [low, high], axis=-1)], to=TensorProto.FLOAT)
    centred = graph.node("Sub", [nibbles, graph.weight("eight", np.array(8, dtype=np.float32))])
    shape = graph.weight("blocks", np.array([0, 0, columns // _BLOCK, _BLOCK], dtype=np.int64))
    blocks = graph.node("Reshape", [centred, shape])
    scales = graph.node("Gather", [graph.weight("words.scale", scale), "ids"])
    scales = graph.node("Unsqueeze", [scales, graph.weight("last", np.array([3], dtype=np.int64))])
    scaled = graph.node("Mul", [blocks, graph.node("Cast", [scales], to=TensorProto.FLOAT)])
    return graph.node("Reshape", [scaled, graph.weight("flat", np.array([0, 0, columns], dtype=np.int64))])


def _norm(graph: _Graph, name: str, state: dict[str, NDArray[np.float32]], x: str, epsilon: float) -> str:
    scale, bias = (
        graph.weight(f"{name}.scale", state[f"{name}.weight"]),
        graph.weight(f"{name}.bias", state[f"{name}.bias"]),
    )
    return graph.node("LayerNormalization", [x, scale, bias], axis=-1, epsilon=epsilon)


def _layer(graph: _Graph, state: dict[str, NDArray[np.float32]], name: str, x: str, config: Any) -> str:
    heads, epsilon = config.num_attention_heads, config.layer_norm_eps

    def linear(value: str, part: str) -> str:
        return graph.linear(value, f"{name}.{part}", state[f"{name}.{part}.weight"].T, state[f"{name}.{part}.bias"])

    query, key, value = (linear(x, f"attention.self.{part}") for part in ("query", "key", "value"))
    mixed = graph.node("MultiHeadAttention", [query, key, value, "", "mask"], domain=_CONTRIB, num_heads=heads)
    # The two take a tenth of the time of the contrib SkipLayerNormalization (ONNX Runtime 1.31): a sixth of a run.
    attended = graph.node("Add", [linear(mixed, "attention.output.dense"), x])
    attended = _norm(graph, f"{name}.attention.output.LayerNorm", state, attended, epsilon)
    wide = graph.node("Gelu", [linear(attended, "intermediate.dense")], domain=_CONTRIB)
    out = graph.node("Add", [linear(wide, "output.dense"), attended])
    return _norm(graph, f"{name}.output.LayerNorm", state, out, epsilon)


def _means(graph: _Graph, states: list[str]) -> list[str]:
    axis = graph.weight("pool.axis", np.array([1], dtype=np.int64))
    last = graph.weight("pool.last", np.array([2], dtype=np.int64))
    mask = graph.node("Cast", ["mask"], to=TensorProto.FLOAT)
    each, count = graph.node("Unsqueeze", [mask, last]), graph.node("ReduceSum", [mask, axis], keepdims=1)
    totals = [graph.node("ReduceSum", [graph.node("Mul", [x, each]), axis], keepdims=0) for x in states]
    return [graph.node("Div", [total, count]) for total in totals]


def _layer_head(graph: _Graph, head: LayerHead, means: list[str]) -> None:
    weight, bias = (t.cpu().float().numpy() for t in head.folded(head.inner))
    read = graph.node("Concat", means, axis=-1)
    inner = graph.linear(read, "head.inner", weight.T, bias)
    outer, end = (t.detach().cpu().float().numpy() for t in (head.outer.weight, head.outer.bias))
    hidden = graph.node("Gelu", [inner], domain=_CONTRIB)
    product = graph.node("MatMul", [hidden, graph.weight("head.outer.weight", outer.T)])
    graph.node("Add", [product, graph.weight("head.outer.bias", end)], out="logits")
    weight, bias = (t.cpu().float().numpy() for t in head.folded(head.acts))
    product = graph.node("MatMul", [read, graph.weight("head.acts.weight", weight.T)])
    graph.node("Add", [product, graph.weight("head.acts.bias", bias)], out="acts")
