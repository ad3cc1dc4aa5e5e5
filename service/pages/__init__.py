"""The web pages: server-rendered, over the same functions as the API; they work without script and refresh with it."""
