"""What the verbs of the command line do, one a file. Importing this loads nothing heavy."""
