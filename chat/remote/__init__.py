"""A server as the backend: the same session, history and filter over any OpenAI-compatible API."""
