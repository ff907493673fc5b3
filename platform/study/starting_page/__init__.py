"""A first study page for a folder of images: look at it (``survey``), choose settings (``recipe``), write them."""
