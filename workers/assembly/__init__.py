"""Pure: events become closed requests. Deadlines run on stream time; `now` is always a parameter."""
