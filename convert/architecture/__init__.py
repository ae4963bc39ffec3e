"""Read a model's sizes, attention and rotary positions from config.json or params.json."""
