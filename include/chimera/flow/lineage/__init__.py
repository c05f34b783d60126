"""What other systems are told of lineage."""
