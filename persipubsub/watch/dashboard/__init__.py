"""A page in the browser that shows queues live; needs the extra ``dashboard`` (Starlette and uvicorn)."""
