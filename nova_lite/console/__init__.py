"""Consoles of instances: the tokens that open them."""
