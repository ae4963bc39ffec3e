"""The engine in a child process: its protocol, its server and its client. A crash of llama.cpp ends only the child."""
