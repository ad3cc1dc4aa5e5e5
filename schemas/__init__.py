"""How things look outside the process: stored events, requests, problems."""
