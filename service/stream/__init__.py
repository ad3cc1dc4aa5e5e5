"""The live stream: every event of one's escrows, over a WebSocket, once and in order."""
