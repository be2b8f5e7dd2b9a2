"""Fair comparison of learners: splits, runs, statistics, reports."""
