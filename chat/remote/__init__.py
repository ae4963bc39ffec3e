"""A server elsewhere as the engine: the same session, history and filter over any OpenAI-compatible API."""
