"""What the platform can do, measured beside what its parts can do, in one run on one machine."""
