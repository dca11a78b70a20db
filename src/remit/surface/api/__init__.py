"""The HTTP API: one file of routes for each capability, assembled in `app.py`."""
