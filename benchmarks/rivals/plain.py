"""The SavedModel behind plain FastAPI: `python -m benchmarks.rivals.plain MODEL PORT`. One at a time."""

from __future__ import annotations

import base64
import sys
import threading
from typing import Any


def main(directory: str, port: int) -> None:
    """Serve until the process is ended."""
    import tensorflow as tf
    import uvicorn
    from fastapi import FastAPI

    app, lock = FastAPI(), threading.Lock()
    model = tf.saved_model.load(directory)
    predict = model.signatures["serving_default"]

    @app.post("/predict")
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        picture = base64.b64decode(body["inputs"])
        with lock:
            return {"outputs": predict(inputs=tf.constant([picture]))["outputs"].numpy()[0].tolist()}

    @app.get("/health")
    def health() -> str:
        return "ok"

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
