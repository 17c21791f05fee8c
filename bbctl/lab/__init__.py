"""The practice cluster: real SSH hosts, a real VIP, a sample client."""
