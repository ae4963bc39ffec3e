"""Prompt formats: a conversation in, segments of control tokens and text out."""
