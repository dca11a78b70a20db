"""The console in the browser: HTML drawn on the server, a strict content security policy, no build step."""
