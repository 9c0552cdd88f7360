"""What the platform brings along when nobody else provides it: each a supervised child."""
