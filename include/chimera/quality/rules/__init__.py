"""Rules: their YAML form, their kinds, their SQL predicates and their compiled suites."""
