"""What a command does to a finished run, one file each."""
