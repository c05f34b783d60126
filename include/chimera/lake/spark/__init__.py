"""Builds of models on Spark Connect: their parents as views, and the files that they leave."""
