"""Tasks from tables: public ones and one's own."""
