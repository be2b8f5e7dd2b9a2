"""Task ``tracks``: windows of genomes, folds of stretches, metrics of genes and of bins."""
