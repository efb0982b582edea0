"""One module a tool: options in, library call, records out. No command imports another."""
