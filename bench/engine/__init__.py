"""The engine beside its peers, on servers of its own."""
