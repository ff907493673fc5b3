"""A finished model on images that it has not seen: which images it takes, a folder of them, and their probabilities."""
