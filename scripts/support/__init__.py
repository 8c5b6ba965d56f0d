"""What the scripts share. Nothing heavy is imported before it is needed, so that `--help` answers at once."""
