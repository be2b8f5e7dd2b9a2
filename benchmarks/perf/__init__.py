"""Speed and memory of the project itself, measured as ratios within one run."""
