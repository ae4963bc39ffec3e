"""The engine: a child process, the only place that loads llama.cpp. A request goes in, events come out."""
