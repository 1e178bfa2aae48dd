"""A classifier's graph, cut down to the one score that a worker wants: the probability of one class."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def probability_of(model: onnx.ModelProto, column: int, output: str = "probabilities") -> onnx.ModelProto:
    """The model with one float32 output `[N, 1]`: a column of its output `[N, classes]`.

    Raises ValueError where there is no such output; one that is a list of mappings must be switched off before
    (skl2onnx: options={"zipmap": False}; onnxmltools: zipmap=False).
    """
    if output not in {found.name for found in model.graph.output}:
        names = ", ".join(found.name for found in model.graph.output)
        raise ValueError(f"output: got {output!r}, expected one of: {names}")
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    score, place = f"{output}_{column}", f"{output}_column"
    cut.graph.initializer.append(numpy_helper.from_array(np.array([column], np.int64), place))
    cut.graph.node.append(helper.make_node("Gather", [output, place], [score], axis=1))
    del cut.graph.output[:]
    cut.graph.output.append(helper.make_tensor_value_info(score, TensorProto.FLOAT, [None, 1]))
    return cut
