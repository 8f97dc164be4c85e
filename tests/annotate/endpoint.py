"""A real HTTP server that answers chat completions, and misbehaves as it is told: run as a script or in a thread."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web


def digest(body: dict[str, Any]) -> int:
    """A number that stands for what is asked: model, messages and seed."""
    asked = json.dumps([body["model"], body["messages"][-1]["content"].split("\n", 1)[1], body["seed"]])
    return int(hashlib.sha256(re.sub(r"</extract-\w+>", "", asked).encode()).hexdigest(), 16)


def answer(body: dict[str, Any], score: int | None = None) -> dict[str, Any]:
    """A valid answer, the same for the same question."""
    properties = body["response_format"]["json_schema"]["schema"]["properties"]
    number = digest(body)
    value = number % 6 if score is None else score
    said: dict[str, Any] = {}
    if "justification" in properties:
        said["justification"] = f"reason {number % 997}"
    if "score" in properties:
        said["score"] = value
    if "topic" in properties:
        choices = [slug for slug in properties["topic"]["enum"] if slug is not None]
        said["topic"] = choices[number % len(choices)]
    text = json.dumps(said)
    tokens = [
        {"token": part, "top_logprobs": [{"token": part, "logprob": -0.1}]} for part in re.findall(r"\w+|\W", text)
    ]
    prompt = sum(len(message["content"]) for message in body["messages"]) // 4
    return {
        "choices": [{"message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": tokens}}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": len(text) // 4},
    }


class Endpoint:
    """Counts what it is asked, and does what ``moods`` say.

    Args:
        moods: of the n-th request of a question what happens: ``ok``, ``slow``, ``hang``, ``cut``, ``garbage``,
            ``refuse``, a status such as ``429`` or ``500``; the last one holds for all further ones.
        log: file that gets a line a request that was answered, for servers of other processes.
        delay: seconds before an answer.
        scores: model name to the score that it always gives.
    """

    def __init__(
        self,
        moods: tuple[str, ...] = ("ok",),
        log: Path | None = None,
        delay: float = 0.0,
        scores: dict[str, int] | None = None,
    ) -> None:
        self.moods, self.log, self.delay, self.scores = moods, log, delay, scores or {}
        self.asked: Counter[int] = Counter()
        self.answered = 0
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.flying = self.most_flying = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        key = digest(body)
        mood = self.moods[min(self.asked[key], len(self.moods) - 1)]
        self.asked[key] += 1
        self.headers.append(dict(request.headers))
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        try:
            return await self._respond(request, body, mood)
        finally:
            self.flying -= 1

    async def _respond(self, request: web.Request, body: dict[str, Any], mood: str) -> web.StreamResponse:
        if self.delay:
            await asyncio.sleep(self.delay)
        if mood == "hang":
            await asyncio.sleep(30)
        if mood == "cut":
            assert request.transport is not None
            request.transport.abort()
        if mood == "garbage":
            return web.Response(text="<html>gateway</html>")
        if mood == "429":
            return web.Response(status=429, headers={"Retry-After": "0.05"}, text="slow down")
        if mood.isdecimal():
            return web.Response(status=int(mood), text=f"status {mood}")
        found = answer(body, self.scores.get(body["model"]))
        if mood == "refuse":
            found["choices"][0]["message"] = {"content": None, "refusal": "no"}
        self.answered += 1
        self.bodies.append(body)
        if self.log is not None:
            with self.log.open("a") as stream:
                stream.write(f"{digest(body)}\n")
        return web.json_response(found)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", self.handle)
        return app


@contextmanager
def serving(endpoint: Endpoint) -> Iterator[Endpoint]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(endpoint.app(), shutdown_timeout=0.1)
    ready = threading.Event()

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        ready.set()

    def work() -> None:
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield endpoint
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


if __name__ == "__main__":
    with serving(Endpoint(log=Path(sys.argv[1]), delay=float(sys.argv[2]))) as served:
        print(served.url, flush=True)
        sys.stdin.read()
