"""What a run reads of a store: genes, features, targets, and the funnel that says who is left out."""
