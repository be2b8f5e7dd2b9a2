"""What models of long windows read: contributions, mutagenesis, links of enhancers and genes, controls."""
