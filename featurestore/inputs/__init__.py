"""Where data comes in: dataset.toml, and readers that turn every input file into arrays."""
