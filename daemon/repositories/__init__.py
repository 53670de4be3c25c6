"""Repositories: the site index of their names, their configuration files, and the open ones."""
