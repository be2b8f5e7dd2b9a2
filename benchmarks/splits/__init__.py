"""Which gene is tested in which fold, and whether anything leaks across."""
