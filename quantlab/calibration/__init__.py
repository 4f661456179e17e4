"""Activations seen while scenes run, and what is kept of them. Changes no network."""
