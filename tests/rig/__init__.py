"""What tests, benchmark and trial run on: real servers, workers as processes, traffic, a judge."""
