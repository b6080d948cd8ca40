"""Recording of a graph as an ONNX model, and sessions that run it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pcloud.errors import InputError
from pcloud.export.packages import onnx, onnxruntime, quiet_exporter
from pcloud.nn.graph.distances import distances_by_products

__all__ = [
    "METADATA_PREFIX",
    "Session",
    "operators",
    "read_metadata",
    "reason_of",
    "record",
    "with_metadata",
]

METADATA_PREFIX = "pcloud."
"""Beginning of the names of our entries in the metadata of a file."""

_MAX_NODES_TO_FUSE = 5000  # half a minute; for L-GATr it would be hours

_MAX_REASON = 300  # characters of an error of the exporter


def record(
    module: nn.Module,
    example: Sequence[Tensor],
    shapes: Mapping[str, Sequence[str | int]],
    outputs: Sequence[str],
) -> Any:
    """Record a module as an ONNX model with free axes.

    Parameters
    ----------
    module : Module
        Function of the inputs, in evaluation mode, which returns a tuple of outputs.
    example : sequence of Tensor
        Inputs with which it is recorded.
    shapes : mapping of str to sequence
        Shape of each input by its name, in order; axes with a name are free.
    outputs : sequence of str
        Names of the outputs.

    Returns
    -------
    onnx.ModelProto
        The model, with the weights inside.

    Raises
    ------
    InputError
        If the module does something that a graph cannot hold; the message says what.
    """
    free = [
        {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(shape) if isinstance(axis, str)}
        for shape in shapes.values()
    ]
    try:
        with quiet_exporter(), distances_by_products(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _WithExactConstants(module),
                tuple(example),
                dynamo=True,
                dynamic_shapes=(tuple(free),),
                input_names=list(shapes),
                output_names=list(outputs),
                verbose=False,
                optimize=False,
            )
            assert program is not None
            if len(program.model.graph) < _MAX_NODES_TO_FUSE:
                program.optimize()
            else:
                _simplify(program)
    except Exception as error:  # of any part of torch, and of a network of the user
        raise InputError(f"this network cannot be exported: {reason_of(error)}") from error
    _products_in_float64(program.model)
    model = program.model_proto
    _strip(model)
    _squares_as_products(model)
    _name_axes(model, shapes)
    _check_operators(model)
    return model


def _simplify(program: Any) -> None:
    """Compute constants, and remove nodes that repeat others or are not used.

    The optimisation of the exporter also looks for pairs of nodes to fuse, in a time that grows with
    the square of their number. ONNX Runtime fuses most of them when it loads a file.
    """
    from onnx_ir.passes import common
    from onnxscript import optimizer

    common.InlinePass()(program.model)
    optimizer.fold_constants(program.model, onnx_shape_inference=True)
    for step in (
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    ):
        step(program.model)


class _WithExactConstants(nn.Module):
    """Module whose constants beside float64 tensors keep all their digits.

    The exporter of PyTorch passes Python numbers through float32, where pi has an error of 9e-8,
    and the smallest float64 number is 0. Here they are tensors.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the module."""
        with _ExactConstants():
            return self.module(*tensors)


class _ExactConstants(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name == "softplus" and args[0].dtype == torch.float64 and len(args) + len(kwargs) == 1:
            return _softplus(args[0])
        if name in _ARITHMETIC:
            given = (*args, *kwargs.values())
            if any(isinstance(x, Tensor) and x.dtype == torch.float64 for x in given):
                args = tuple(map(_exact, args))
                kwargs = {name: _exact(x) for name, x in kwargs.items()}
        return function(*args, **kwargs)


def _softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``, which ONNX Runtime has only in float32."""
    return x.clamp(min=0.0) + ((-x.abs()).exp() + 1).log()


def _exact(x: Any) -> Any:
    """Tensor of a number that float32 cannot represent; anything else itself."""
    if not isinstance(x, float) or x == float(np.float32(x)):
        return x
    return torch.tensor(x, dtype=torch.float64)


_ARITHMETIC = frozenset(
    name
    for operation in (
        "add",
        "sub",
        "mul",
        "div",
        "truediv",
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
        "mod",
    )
    for name in (operation, f"{operation}_", f"__{operation}__", f"__r{operation}__")
) | {
    "rsub",
    "true_divide",
    "remainder",
    "clamp",
    "clamp_",
    "where",
    "subtract",
    "multiply",
    "divide",
}
"""Names of functions in which a Python number may stand beside a tensor."""


def _strip(model: Any) -> None:
    """Remove the notes of the exporter, such as lines of our code, most of a small file."""
    del model.graph.value_info[:]
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    for i, node in enumerate(model.graph.node):
        node.name = f"n{i}"
    del model.metadata_props[:]


def _squares_as_products(model: Any) -> None:
    """Products in the place of powers of 2, which ONNX Runtime computes as any power."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        exponent = constants.get(node.input[1]) if node.op_type == "Pow" else None
        if exponent is not None and (onnx().numpy_helper.to_array(exponent) == 2).all():
            node.op_type = "Mul"
            node.input[1] = node.input[0]


def _products_in_float64(model: Any) -> None:
    """Einstein sums in the place of matrix products in float64.

    ONNX Runtime joins a product and a transposition of one of its factors to one operator, which has
    no float64 before version 1.24. It leaves sums as they are and is as fast with them.
    """
    from onnx_ir import Attr, AttributeType, DataType

    for node in model.graph:
        of_float64 = node.inputs and node.inputs[0] is not None
        if node.op_type == "MatMul" and of_float64 and node.inputs[0].dtype == DataType.DOUBLE:
            node.op_type = "Einsum"
            node.attributes["equation"] = Attr(
                "equation", AttributeType.STRING, "...ij,...jk->...ik"
            )


def _name_axes(model: Any, shapes: Mapping[str, Sequence[str | int]]) -> None:
    """Name the free axes of the inputs."""
    for value in model.graph.input:
        for axis, dim in zip(shapes[value.name], value.type.tensor_type.shape.dim, strict=True):
            if isinstance(axis, str):
                dim.dim_param = axis


def _check_operators(model: Any) -> None:
    """Refuse operators that are not part of the standard."""
    known = {"", "ai.onnx"}
    others = sorted({n.op_type for n in model.graph.node if n.domain not in known})
    if others:
        raise InputError(
            f"this network cannot be exported: ONNX has no operator {', '.join(others)}"
        )


def reason_of(error: BaseException) -> str:
    """Cause of an error in one line: an error of ours, or else the innermost of torch."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        if cause in causes:
            break
        causes.append(cause)
    ours = [cause for cause in causes if isinstance(cause, InputError)]
    text = " ".join(str((ours or causes)[-1]).split())
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}..."


def operators(model: Any) -> list[str]:
    """Names of the operators of a model, sorted."""
    return sorted({node.op_type for node in model.graph.node})


def with_metadata(model: Any, metadata: Mapping[str, Any]) -> Any:
    """Copy of a model with further entries of metadata, as JSON; existing ones are replaced."""
    copy = onnx().ModelProto()
    copy.CopyFrom(model)
    names = {f"{METADATA_PREFIX}{name}" for name in metadata}
    kept = [entry for entry in copy.metadata_props if entry.key not in names]
    del copy.metadata_props[:]
    copy.metadata_props.extend(kept)
    for name, value in metadata.items():
        entry = copy.metadata_props.add()
        entry.key = f"{METADATA_PREFIX}{name}"
        entry.value = json.dumps(value)
    return copy


def without_outputs(model: Any, number: int) -> Any:
    """Copy of a model with its first outputs only, and without nodes that these do not need."""
    copy = onnx().ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[number:]
    needed = {value.name for value in copy.graph.output}
    kept = []
    for node in reversed(copy.graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(reversed(kept))
    return copy


def read_metadata(entries: Mapping[str, str]) -> dict[str, Any]:
    """Our metadata, from those of a file."""
    found = {}
    for name, value in entries.items():
        if name.startswith(METADATA_PREFIX):
            found[name.removeprefix(METADATA_PREFIX)] = json.loads(value)
    return found


class Session:
    """A model in ONNX Runtime, on one thread.

    Parameters
    ----------
    model : onnx.ModelProto, bytes or str
        Model, or the path of a file.

    Attributes
    ----------
    inputs, outputs : list of str
        Names.
    """

    def __init__(self, model: Any, threads: int = 1) -> None:
        runtime = onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        source = model.SerializeToString() if hasattr(model, "SerializeToString") else model
        try:
            self._session = runtime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the classes of ONNX Runtime are in a private module
            raise InputError(f"ONNX Runtime refuses this network: {reason_of(error)}") from error
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]

    @property
    def metadata(self) -> dict[str, Any]:
        """Our metadata of the model."""
        return read_metadata(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, from inputs by name, of which those of the model are used."""
        given = {name: feed[name] for name in self.inputs}
        return dict(zip(self.outputs, self._session.run(None, given), strict=True))
