"""Reduces a classifier's graph to the one score that a worker needs: the probability of one class."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def probability_of(
    model: onnx.ModelProto, column: int, output: str = "probabilities"
) -> onnx.ModelProto:
    """A copy of the model with one float32 output `[N, 1]`: a column of its output `[N, classes]`.

    A ZipMap, which makes a list of mappings of these columns, is removed. `trimtab models new
    --class LABEL` does the same to a file, and finds the output and the label itself. Raises
    ValueError if there is no such output.
    """
    outputs = [value.name for value in model.graph.output]
    if output not in outputs:
        raise ValueError(f"output: got {output!r}, expected one of: {', '.join(outputs)}")

    reduced = onnx.ModelProto()
    reduced.CopyFrom(model)
    graph = reduced.graph

    table = output
    for node in list(graph.node):
        if node.op_type == "ZipMap" and output in node.output:
            table = node.input[0]
            graph.node.remove(node)

    score = f"{output}_{column}"
    index = f"{output}_column"
    graph.initializer.append(numpy_helper.from_array(np.array([column], np.int64), index))
    if reduced.ir_version < 4:  # files of CatBoost: in this version each constant is an input, too
        graph.input.append(helper.make_tensor_value_info(index, TensorProto.INT64, [1]))
    graph.node.append(helper.make_node("Gather", [table, index], [score], axis=1))
    if not any(opset.domain in ("", "ai.onnx") for opset in reduced.opset_import):
        reduced.opset_import.append(helper.make_opsetid("", 8))

    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(score, TensorProto.FLOAT, [None, 1]))
    return reduced
