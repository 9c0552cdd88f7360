"""How to talk to the platform without any of its code."""
