"""The hands: processes that make the world what the log says."""
