"""From what is asked to finished run folders: plans, folds, workers, and the files of a result."""
