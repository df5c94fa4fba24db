"""Importing and exporting what happened before."""
