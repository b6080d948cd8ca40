"""Exported graphs in lower precision, and what they lose."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pcloud.errors import InputError
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.robustness import compare_scores
from pcloud.export.graph import PROBABILITIES
from pcloud.export.packages import onnx
from pcloud.export.parity import Batch, Outputs, Runnable, difference

__all__ = ["Loss", "loss_of", "outputs_of", "with_precision"]

_EFFICIENCIES = (0.3, 0.5)
_MAX_FOLDED = 2**26  # elements of a weight that is computed from others


class Loss(dict[str, Measured]):
    """Paired differences of AUC and rejections from float32 by name, on labelled jets."""

    largest: float = 0.0
    """Largest difference of a probability, or of another output relative to 1 plus its size."""

    def rows(self) -> list[list[str]]:
        """Table of the differences."""
        rows = [["difference from float32", f"{self.largest:.1e} at most"]]
        return [*rows, *([name, str(value)] for name, value in self.items())]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the metadata of the file."""
        found = {name: {"value": m.value, "error": m.error} for name, m in self.items()}
        return {"largest": self.largest, **found}


def with_precision(
    model: Any, precision: str, feeds: Iterable[Mapping[str, np.ndarray]] = ()
) -> Any:
    """Copy of a model whose linear maps have another precision.

    These are the products with weights. Everything else keeps its precision: features, neighbour
    searches, Minkowski products and attention weights, in which squares of energies would exceed the
    range of float16, 65 504.

    Parameters
    ----------
    model : onnx.ModelProto
        Model in float32.
    precision : {"float16", "int8", "static int8"}
        With float16, inputs, weights and outputs of the linear maps are rounded to float16. With
        int8, weights are rounded to 8 bits with a scale for each output, and the inputs with a
        scale for each call. With static int8, the scale of the inputs is fixed.
    feeds : iterable of mapping
        Inputs of a session from which static int8 takes the range of the inputs of each map.

    Raises
    ------
    InputError
        If the model has no linear maps.
    """
    model = _with_folded_weights(model)
    constants = _constants(model)
    linear = [node for node in model.graph.node if _is_linear(node, constants)]
    if not linear:
        raise InputError(f"this network has no linear maps that {precision} could be used for")
    if precision == "float16":
        return _in_float16(model, linear)
    names = [node.name for node in linear]
    if precision == "static int8":
        return _in_static_int8(model, names, feeds)
    return _in_int8(model, names)


def _with_folded_weights(model: Any) -> Any:
    """Copy with weights as constants that are computed from others, however large."""
    import onnx_ir
    from onnx_ir.passes import common
    from onnxscript import optimizer

    copy = onnx_ir.serde.deserialize_model(model)
    optimizer.fold_constants(copy, input_size_limit=_MAX_FOLDED, output_size_limit=_MAX_FOLDED)
    optimizer.remove_unused_nodes(copy)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(copy)
    folded = onnx_ir.serde.serialize_model(copy)
    constants = _constants(folded)
    nodes = [p for node in folded.graph.node for p in _as_matrix_product(folded, node, constants)]
    del folded.graph.node[:]
    folded.graph.node.extend(nodes)
    for i, node in enumerate(folded.graph.node):
        node.name = f"n{i}"
    return _without_unused_weights(folded)  # of which ONNX Runtime warns


def _as_matrix_product(model: Any, node: Any, constants: dict[str, Any]) -> list[Any]:
    """Nodes MatMul and Add in the place of a Gemm with a constant weight; others as they are."""
    weight = constants.get(node.input[1]) if node.op_type == "Gemm" else None
    if weight is None:
        return [node]
    given = {a.name: onnx().helper.get_attribute_value(a) for a in node.attribute}
    if given.get("transA") or given.get("alpha", 1) != 1 or given.get("beta", 1) != 1:
        return [node]
    name = f"{node.output[0]}.weight"
    values = onnx().numpy_helper.to_array(weight)
    values = np.ascontiguousarray(values.T) if given.get("transB") else values
    model.graph.initializer.append(onnx().numpy_helper.from_array(values, name))
    (output,) = node.output
    has_bias = len(node.input) > 2 and node.input[2]
    product = f"{output}.product" if has_bias else output
    nodes = [onnx().helper.make_node("MatMul", [node.input[0], name], [product])]
    if has_bias:
        nodes.append(onnx().helper.make_node("Add", [product, node.input[2]], [output]))
    return nodes


def _constants(model: Any) -> dict[str, Any]:
    """Tensors by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def _is_linear(node: Any, constants: dict[str, Any]) -> bool:
    """Return whether a node is a product with a weight, not with a metric of -1, 0 and 1."""
    if node.op_type != "MatMul" or node.input[1] not in constants:
        return False
    tensor = constants[node.input[1]]
    if tensor.data_type != onnx().TensorProto.FLOAT or len(tensor.dims) != 2:
        return False
    return not np.isin(onnx().numpy_helper.to_array(tensor), (-1, 0, 1)).all()


def _in_float16(model: Any, linear: Iterable[Any]) -> Any:
    kinds = onnx().TensorProto
    helper = onnx().helper
    constants = _constants(model)
    chosen = {node.name for node in linear}
    halves: dict[str, str] = {}
    nodes = []

    def cast(source: str, target: str, kind: int) -> Any:
        return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=kind)

    for node in model.graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            if not name:
                continue
            if name not in halves:
                halves[name] = f"{name}.half"
                if name in constants:
                    values = onnx().numpy_helper.to_array(constants[name]).astype(np.float16)
                    half = onnx().numpy_helper.from_array(values, halves[name])
                    model.graph.initializer.append(half)
                else:
                    nodes.append(cast(name, halves[name], kinds.FLOAT16))
            node.input[i] = halves[name]
        name = node.output[0]
        node.output[0] = f"{name}.narrow"
        nodes += [node, cast(f"{name}.narrow", name, kinds.FLOAT)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return _without_unused_weights(model)


def _in_int8(model: Any, linear: list[str]) -> Any:
    from onnxruntime.quantization import quantize_dynamic

    return _quantised(quantize_dynamic, model, linear)


def _in_static_int8(
    model: Any, linear: list[str], feeds: Iterable[Mapping[str, np.ndarray]]
) -> Any:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        remaining = iter(feeds)

        def get_next(self) -> Mapping[str, np.ndarray] | None:
            return next(self.remaining, None)

    return _quantised(
        quantize_static, model, linear, calibration_data_reader=Reader(),
        activation_type=QuantType.QUInt8,
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},  # biases in float32
    )  # fmt: skip


def _quantised(quantize: Callable[..., None], model: Any, linear: list[str], **options: Any) -> Any:
    """Model with linear maps, given by the names of their nodes, in 8 bits."""
    from onnxruntime.quantization import QuantType

    disabled = logging.root.manager.disable
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        try:
            logging.disable(logging.WARNING)  # it advises to optimise the graph, which is done
            quantize(
                model,
                path,
                op_types_to_quantize=["MatMul"],
                nodes_to_quantize=linear,
                per_channel=True,
                weight_type=QuantType.QInt8,
                **options,
            )
        finally:
            logging.disable(disabled)
        found = onnx().load(path)
    standard = [entry for entry in found.opset_import if entry.domain in ("", "ai.onnx")]
    del found.opset_import[:]
    found.opset_import.extend(standard)
    return _without_unused_weights(found)


def _without_unused_weights(model: Any) -> Any:
    used = {name for node in model.graph.node for name in node.input}
    used |= {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    return model


def outputs_of(session: Runnable, batches: Iterable[Batch], like: Outputs) -> Outputs:
    """Outputs of a session for all jets, in arrays of the shapes of `like`."""
    found = {name: np.empty(values.shape) for name, values in like.items()}
    for jets, feed in batches:
        for name, values in session(feed).items():
            if name in found:
                found[name][jets] = values
    return found


def loss_of(
    found: Outputs, reference: Outputs, labels: np.ndarray | None, classes: list[str]
) -> Loss:
    """Paired differences of lower precision from float32.

    Parameters
    ----------
    found, reference : dict of str to array
        Outputs in lower precision, and those of PyTorch.
    labels : array of int, optional
        Classes of the first jets; further ones are synthetic.
    classes : list of str
        Names of the classes. Of more than two, each is compared with all others.
    """
    loss = Loss()
    loss.largest = float(difference(found, reference).max(initial=0.0))
    if labels is None or PROBABILITIES not in reference or len(np.unique(labels)) < 2:
        return loss
    before, after = (outputs[PROBABILITIES][: len(labels)] for outputs in (reference, found))
    signals = [1] if len(classes) == 2 else np.unique(labels).tolist()
    for signal in signals:
        of_class = "" if len(signals) == 1 else f" of {classes[signal]}"
        pair = [np.stack([1 - p[:, signal], p[:, signal]], axis=1) for p in (before, after)]
        is_signal = (labels == signal).astype(np.int64)
        for efficiency in _EFFICIENCIES:
            effect = compare_scores(is_signal, *pair, efficiency=efficiency)
            loss[f"change of AUC{of_class}"] = effect.auc_change
            if effect.rejection_ratio is not None:
                name = f"ratio of 1/εB{of_class} at εS = {efficiency:g}"
                loss[name] = effect.rejection_ratio
    return loss
