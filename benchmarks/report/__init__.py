"""The report: one self-contained HTML file from run folders."""
