"""A checkpoint to an ONNX file in int8 or 4 bits (needs the ``encoder`` extra)."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fineedu.classify.checkpoints import checkpoint_source, read_tokenizer
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


def load_body(checkpoint: str, pool: tuple[int, ...], attention: str = "eager", tokenizer: Path | None = None) -> Any:
    """Load a checkpoint's encoder, without the layers above the highest that is pooled.

    A decoder's norm after the last layer is left out too: it is made for the layers that are cut off.

    Args:
        checkpoint: see :func:`~fineedu.classify.checkpoints.checkpoint_path`.
        pool: layers.
        attention: transformers' implementation; ``eager`` can be exported, ``sdpa`` is fast on a GPU.
        tokenizer: with a cut vocabulary, to whose tokens the embeddings are cut; default all.

    Raises:
        FineeduError: it cannot be loaded, has fewer layers, or layers that are not found.
    """
    import torch
    from transformers import AutoModel
    from transformers.utils import logging as notices

    notices.set_verbosity_error()
    notices.disable_progress_bar()
    try:
        with _quiet():
            body = AutoModel.from_pretrained(
                **checkpoint_source(checkpoint), attn_implementation=attention, dtype=torch.float32
            )
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
    body.config.use_cache = False
    if hasattr(body, "norm"):
        body.norm = torch.nn.Identity()
    if tokenizer is not None:
        from fineedu.classify.vocabulary import rows

        kept = torch.from_numpy(rows(read_tokenizer(checkpoint), json.loads(tokenizer.read_text(encoding="utf-8"))))
        weights = body.get_input_embeddings().weight[kept].detach().clone()
        body.set_input_embeddings(torch.nn.Embedding.from_pretrained(weights))
        body.config.vocab_size = len(kept)
        body.config.pad_token_id = None
    return body


def layer_stack(body: Any) -> Any:
    """Return the list of an encoder's layers, or None."""
    import torch

    lists = [found for found in body.modules() if isinstance(found, torch.nn.ModuleList)]
    return max(lists, key=len, default=None)


def encoder_module(body: Any, settings: EncoderSettings) -> Any:
    """Return ``pooled_module`` as an encoder's settings want it."""
    return pooled_module(body, settings.pool, bool(settings.sink), settings.unit)


def pooled_module(body: Any, pool: tuple[int, ...], sink: bool = False, unit: bool = False) -> Any:
    """Return a torch module from ids and mask (b×n each) to means of the pooled layers side by side (b×d).

    Args:
        body: from ``load_body``.
        pool: layers.
        sink: leave the first token out of the means.
        unit: scale each token's state to a root mean square of 1 first.
    """
    import torch

    class Pooled(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            found = self.body(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
            first = 1 if sink else 0
            mask = attention_mask[:, first:, None].to(torch.float32)
            layers = [found.hidden_states[layer][:, first:].to(torch.float32) for layer in pool]
            if unit:
                layers = [layer * torch.rsqrt(layer.square().mean(-1, keepdim=True) + 1e-6) for layer in layers]
            return torch.cat([(layer * mask).sum(1) / mask.sum(1) for layer in layers], 1)

    return Pooled().eval()


def export(
    settings: EncoderSettings,
    folder: Path,
    lessons: Lessons | None = None,
    seed: int = 1,
    texts: Sequence[str] = (),
) -> None:
    """Tune a checkpoint where there are lessons, and write ``model.onnx`` and ``tokenizer.json``.

    Args:
        settings: checkpoint, layers and tuning.
        folder: where to; also gets ``torch/`` with the weights for torch, if the settings ask for it.
        lessons: what the layers that learn learn from.
        seed: of the tuning.
        texts: unlabelled ones: what tokens are counted on where the settings cut the vocabulary, and what layers
            imitate another encoder on.

    Raises:
        FineeduError: a package is missing, or the checkpoint does not fit.
    """
    require_encoder_training()
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(settings.checkpoint, folder / TOKENIZER, settings.sink, settings.vocabulary, texts)
    body = load_body(settings.checkpoint, settings.pool, tokenizer=folder / TOKENIZER if settings.vocabulary else None)
    if settings.tuning.distill:
        from fineedu.classify.tuning import Lessons

        lessons = Lessons.from_encoder(settings, folder / TOKENIZER, texts, seed)
    if lessons is not None and settings.tuning.layers:
        from fineedu.classify.tuning import tune

        tune(body, settings, folder / TOKENIZER, lessons, seed)
    if settings.torch_weights:
        body.half().save_pretrained(folder / "torch")
        body.float()
    write_onnx(encoder_module(body, settings), folder / WEIGHTS, settings.bits)


def save_tokenizer(
    checkpoint: str, path: Path, sink: str | None = None, vocabulary: int | None = None, texts: Sequence[str] = ()
) -> None:
    """Write a checkpoint's tokenizer as one file.

    Args:
        checkpoint: see :func:`~fineedu.classify.checkpoints.checkpoint_path`.
        path: where to.
        sink: token that is put before each window.
        vocabulary: keep so many tokens, see :func:`fineedu.classify.vocabulary.cut`.
        texts: what those are counted on.

    Raises:
        FineeduError: there is no such token, or the vocabulary is not one that can be cut.
    """
    from fineedu.classify.vocabulary import cut, lead

    held = read_tokenizer(checkpoint)
    try:
        if vocabulary:
            cut(held, vocabulary, texts)
        if sink:
            lead(held, sink)
    except FineeduError as error:
        raise FineeduError(f"checkpoint {checkpoint}: {error}") from error
    path.write_text(json.dumps(held, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporters' hundreds of notices, and bars of progress."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def write_onnx(module: Any, path: Path, bits: int = 8) -> None:
    """Export a pooled module and quantise it to int8 or to 4 bits.

    4 bits: see :func:`fineedu.classify.blocks.pack`. int8: dynamic quantisation with one scale a channel of the
    weights (without it the cosine to fp32 falls from .994 to about .9) and one scale a tensor for the activations:
    what is in a batch together shares that scale, which is why ``OnnxEmbedder`` runs windows one at a time.
    """
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from fineedu.classify.blocks import pack

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
        if bits == 4:
            pack(whole, path)
        else:
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
