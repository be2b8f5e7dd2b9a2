"""Tracks along genomes, from bigWig files or a tidy table, as means over bins."""
