"""A folder of anybody's data: its form, its splits, its faults, and the config that trains on it."""
