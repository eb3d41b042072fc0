"""The idiom of all command lines: flags, configuration files, exit codes and error messages."""
