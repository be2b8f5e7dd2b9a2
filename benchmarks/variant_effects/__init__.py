"""Statistics of variant effects: β between and within genes, its errors, its null, its ceiling.

Pure functions on arrays and tables; they know neither learners nor stores.
"""
