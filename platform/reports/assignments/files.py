"""Names of the files of a clustering, in a study's folder."""

CSV, PARQUET, GALLERY = "assignments.csv", "assignments.parquet", "gallery.html"
FILES = (CSV, PARQUET, GALLERY)
