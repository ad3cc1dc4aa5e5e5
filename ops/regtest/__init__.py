"""A private chain and its wallets on this machine, for the demo and the tests of real wallets."""
