"""Choosing a host inside a cell."""
