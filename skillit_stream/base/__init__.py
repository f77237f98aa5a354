"""What every room stands on: errors, files, tasks, names. Imports nothing of the project."""
