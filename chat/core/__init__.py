"""The values that the packages exchange: conversations, requests, events."""
