"""Rules as people write them: their kinds, predicates and compiled suites."""
