"""A model file in ONNX as a frozen encoder of images or vectors."""

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from raytrain.encoders.frozen.encoder import (
    FrozenEncoder,
    InputConfig,
    Observations,
    Preprocessing,
)
from raytrain.encoders.modality import FieldSpec
from raytrain.encoders.weights import WeightsError, read_bytes
from raytrain.errors import UserError

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(frozen=True, kw_only=True)
class OnnxEncoder(InputConfig):
    """A model in an ONNX `file` (path, URL or wheel://PACKAGE/MEMBER), run by onnxruntime.

    `input` names where images [n, c, h, w] or vectors [n, columns] go, and `output` the features
    [n, d]; each may be left out where the model has one alone. Without mean and std values go in as
    they are.
    """

    kind: Literal["onnx"] = "onnx"
    file: str
    input: str | None = None
    output: str | None = None

    def build(self, field: FieldSpec, device: str = "cpu", threads: int = 1) -> FrozenEncoder:
        """The encoder of observations of a field. Raises UserError or WeightsError."""
        return _Onnx(self, field, device, threads)


class _Onnx(FrozenEncoder):
    def __init__(self, config: OnnxEncoder, field: FieldSpec, device: str, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError(
                f"{config.file} needs onnxruntime: pip install 'raytrain[onnx]'"
            ) from None
        content = read_bytes(config.file)
        self.file, self.session = (
            config.file,
            _session(onnxruntime, config.file, content, device, threads),
        )
        self.input = _one(self.session.get_inputs(), config.input, "input", config.file)
        self.output = _one(self.session.get_outputs(), config.output, "output", config.file)
        if self.input.type not in DTYPES:
            raise UserError(f"{config.file}: its input is {self.input.type}, and not float")
        fixed = [size if isinstance(size, int) else None for size in self.input.shape]
        height_width = (fixed[2], fixed[3]) if len(fixed) == 4 and fixed[2] and fixed[3] else None
        self.preprocess = Preprocessing(config, field, height_width)
        self._check_shape(fixed)
        self.fixed_batch = fixed[0]
        self.batch = fixed[0] or config.batch
        self.dim = self.forward(np.zeros((1, *field.shape), field.dtype)).shape[1]
        self.about = {
            **self.preprocess.about,
            "input": self.input.name,
            "output": self.output.name,
            "weights_sha256": hashlib.sha256(content).hexdigest(),
            "versions": {"onnxruntime": version("onnxruntime")},
        }

    def _check_shape(self, fixed: list[int | None]) -> None:
        shape = self.preprocess.field.shape
        fits = len(fixed) == len(shape) + 1 and all(
            wanted in (None, there) for wanted, there in zip(fixed[1:], shape, strict=True)
        )
        if not fits:
            raise UserError(
                f"{self.file}: its input `{self.input.name}` is {self.input.shape}, and the "
                f"observations are {[*shape]}; choose `channels` or `image_px`"
            )

    def forward(self, observations: Observations) -> Tensor:
        values = self.preprocess(torch.tensor(observations)).numpy()
        rows = len(values)
        if self.fixed_batch and rows < self.fixed_batch:
            values = np.resize(values, (self.fixed_batch, *values.shape[1:]))
        given = {self.input.name: values.astype(DTYPES[self.input.type], copy=False)}
        (features,) = self.session.run([self.output.name], given)
        if features.ndim != 2:
            raise UserError(
                f"{self.file}: its output `{self.output.name}` is {[*features.shape]}, and not "
                "features [n, d]; name another `output`"
            )
        return torch.from_numpy(features[:rows]).to(torch.float32)


def _session(onnxruntime: Any, file: str, content: bytes, device: str, threads: int) -> Any:
    providers = ["CPUExecutionProvider"]
    if device != "cpu":
        providers = ["CUDAExecutionProvider"]
        if providers[0] not in onnxruntime.get_available_providers():
            raise UserError(
                f"{file} needs onnxruntime-gpu for a GPU; install it, or leave --gpu out"
            )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # onnxruntime's own, which share no base
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{file} is no model that onnxruntime runs: {reason}") from None


def _one(there: list[Any], name: str | None, what: str, file: str) -> Any:
    """The input or output of this name, or the only one."""
    names = [item.name for item in there]
    if name is None and len(names) == 1:
        return there[0]
    if name not in names:
        missing = f"no {what} `{name}`" if name else f"{len(names)} {what}s"
        raise UserError(f"{file} has {missing}; set `{what}` to one of: {', '.join(names)}")
    if what == "input" and len(names) > 1:
        other = next(n for n in names if n != name)
        raise UserError(f"{file} has an input `{other}` beside `{name}`, which nothing is given to")
    return there[names.index(name)]
