"""Published deposits turned into data sets: PhytoExpr's data.csv, the arrays of EMPRES."""
