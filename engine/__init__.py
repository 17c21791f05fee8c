"""The workflow engine: MongoDB is the truth, Redis carries hints, RQ wakes the drain."""
