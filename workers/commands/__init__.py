"""The commands of `trimtab`, one module each."""
