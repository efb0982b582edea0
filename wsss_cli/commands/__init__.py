"""One module a tool: options in, one call, records out. No command imports another."""
