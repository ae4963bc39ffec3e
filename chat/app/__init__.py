"""What the one-shot run, the batch and the session share: backends, stored sessions, requests, reports."""
