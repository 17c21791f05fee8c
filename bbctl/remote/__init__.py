"""Text for the remote shell beside the parser of its answer."""
