"""Families of related tasks: one file for each, with frozen, hashed and disjoint splits."""
