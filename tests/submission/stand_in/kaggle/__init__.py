"""Stands in for the `kaggle` package in subprocesses of the tests."""
