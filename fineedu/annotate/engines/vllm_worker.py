"""The child that runs vLLM offline: requests as JSON lines on stdin, answers as JSON lines on stdout.

Started by ``vllm.py`` with the interpreter that has vLLM, which need not have this package: this file imports the
standard library and vLLM only.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from typing import Any

if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose openai.py and vllm.py would stand in front of the packages of these names


def _sampling(body: dict[str, Any]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    schema = body["response_format"]["json_schema"]["schema"]
    return SamplingParams(
        temperature=body["temperature"],
        top_p=body["top_p"],
        max_tokens=body["max_tokens"],
        seed=body["seed"],
        logprobs=body.get("top_logprobs") if body.get("logprobs") else None,
        structured_outputs=StructuredOutputsParams(json=schema),
    )


def _tokens(output: Any) -> list[dict[str, Any]]:
    """Return a completion's log-probabilities in the form of the chat API."""
    content = []
    for token_id, found in zip(output.token_ids, output.logprobs or [], strict=False):
        top = [{"token": other.decoded_token or "", "logprob": other.logprob} for other in found.values()]
        content.append({"token": found[token_id].decoded_token or "", "top_logprobs": top})
    return content


def _response(result: Any) -> dict[str, Any]:
    output = result.outputs[0]
    return {
        "choices": [
            {
                "message": {"content": output.text},
                "finish_reason": output.finish_reason,
                "logprobs": {"content": _tokens(output)},
            }
        ],
        "usage": {"prompt_tokens": len(result.prompt_token_ids), "completion_tokens": len(output.token_ids)},
    }


def _read(requests: queue.Queue[dict[str, Any] | None]) -> None:
    for line in sys.stdin:
        requests.put(json.loads(line))
    requests.put(None)


def _batch(requests: queue.Queue[dict[str, Any] | None], most: int) -> list[dict[str, Any] | None]:
    """Wait for one request, and take what has gathered meanwhile."""
    found = [requests.get()]
    while len(found) < most and found[-1] is not None:
        try:
            found.append(requests.get(timeout=0.05))
        except queue.Empty:
            break
    return found


def _answer(llm: Any, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answer a batch; where one of it cannot be answered (a prompt too long), they are tried one by one."""
    try:
        results = llm.chat(
            [request["body"]["messages"] for request in batch],
            [_sampling(request["body"]) for request in batch],
            use_tqdm=False,
        )
        return [_response(result) for result in results]
    except ValueError as error:
        if len(batch) == 1:
            return [{"error": str(error)[:300]}]
        return [response for request in batch for response in _answer(llm, [request])]


def main() -> None:
    """Load the model, say so, answer until stdin ends."""
    settings = json.loads(sys.argv[1])
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # nothing that vLLM prints may mix with the answers
    from vllm import LLM

    llm = LLM(**settings["llm"])
    output.write('{"ready": true}\n')
    output.flush()
    requests: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    more = True
    while more:
        batch = [request for request in _batch(requests, settings["batch"]) if request is not None]
        more = bool(batch)
        for request, response in zip(batch, _answer(llm, batch) if batch else [], strict=True):
            output.write(json.dumps({"id": request["id"], "response": response}) + "\n")
        output.flush()


if __name__ == "__main__":
    main()
