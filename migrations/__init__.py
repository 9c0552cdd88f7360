"""How the read side in Postgres came to be shaped as it is."""
