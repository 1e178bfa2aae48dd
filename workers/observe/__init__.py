"""What the workers say of themselves: log events, counters and the rate line."""
