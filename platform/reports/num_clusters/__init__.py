"""How many clusters there are, as far as a study that searched their number can say without labels."""
