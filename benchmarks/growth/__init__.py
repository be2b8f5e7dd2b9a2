"""How time and memory grow with genes and species: ``python -m benchmarks.growth``."""
