"""Engines: what answers a rubric's question. All take the body of an OpenAI-style chat completion request."""
