"""How people and programs reach an escrow; the only room that builds objects."""
