"""Tasks from images by class."""
