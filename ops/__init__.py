"""How it is run: installing, checking, the private chain, benches."""
