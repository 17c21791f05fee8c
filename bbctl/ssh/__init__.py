"""Connections to hosts: dialled, logged in to, spoken over; many at once."""
