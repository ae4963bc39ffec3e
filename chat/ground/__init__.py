"""The ground floor: leaf modules that both wings stand on. Imports neither wing."""
