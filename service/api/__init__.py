"""The HTTP API: parse, authorise, bring to the desk, answer. No rule of an escrow is decided here."""
