"""``huggingface``: any masked or causal genomic model that ``transformers`` loads with its own code."""
