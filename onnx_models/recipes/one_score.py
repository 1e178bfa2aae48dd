"""A classifier's graph, cut down to the one score that a worker wants: the probability of one
class.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def probability_of(
    model: onnx.ModelProto, column: int, output: str = "probabilities"
) -> onnx.ModelProto:
    """The model with one float32 output `[N, 1]`: a column of its output `[N, classes]`.

    A ZipMap, which makes a list of mappings of these columns, is taken off. `trimtab models new
    --class LABEL` does the same to a file, and finds the output and the label by itself. Raises
    ValueError where there is no such output.
    """
    if output not in {found.name for found in model.graph.output}:
        names = ", ".join(found.name for found in model.graph.output)
        raise ValueError(f"output: got {output!r}, expected one of: {names}")
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    table = output
    for node in [node for node in graph.node if node.op_type == "ZipMap" and output in node.output]:
        table = node.input[0]
        graph.node.remove(node)
    score, place = f"{output}_{column}", f"{output}_column"
    graph.initializer.append(numpy_helper.from_array(np.array([column], np.int64), place))
    if cut.ir_version < 4:  # CatBoost's files: there each constant is an input too
        graph.input.append(helper.make_tensor_value_info(place, TensorProto.INT64, [1]))
    graph.node.append(helper.make_node("Gather", [table, place], [score], axis=1))
    if not any(opset.domain in ("", "ai.onnx") for opset in cut.opset_import):
        cut.opset_import.append(helper.make_opsetid("", 8))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(score, TensorProto.FLOAT, [None, 1]))
    return cut
