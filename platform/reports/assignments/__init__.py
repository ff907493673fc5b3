"""Which image is in which cluster: the table (``table``), the gallery (``gallery``), and names for the clusters.

``best_trial`` writes them for a study; ``platform.assign`` for new images.
"""
