"""Prompt formats: conversations in, segments of control pieces and text out. Knows no vocabulary."""
