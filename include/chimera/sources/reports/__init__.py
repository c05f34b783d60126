"""Evaluation reports of other tools: each file is one unit, published whole when it is complete."""
