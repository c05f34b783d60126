"""How staged rows and models' builds become versions of tables, verified after the commit."""
