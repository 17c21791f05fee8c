"""The embedded MongoDB and Redis, their keeper, and how stores do."""
