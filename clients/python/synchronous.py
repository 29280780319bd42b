"""Writes the synchronous client: the asynchronous one without its awaits. `tests/clients/python_package.py` holds that they agree."""

import pathlib
import re

HERE = pathlib.Path(__file__).parent / "src/conductor_gateway_client"
REPLACED = [
    ("import asyncio\n", "\n"),
    ("asyncio.sleep(", "time.sleep("),
    ("The asyncio client", "The synchronous client"),
    ("AsyncIterator", "Iterator"),
    ("AsyncClient", "Client"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    (".aclose()", ".close()"),
    (".aread()", ".read()"),
    (".aiter_bytes()", ".iter_bytes()"),
]


def synchronous() -> str:
    """Returns the text of the synchronous client."""
    text = (HERE / "_async.py").read_text()
    for was, becomes in REPLACED:
        text = text.replace(was, becomes)
    return re.sub(r"\b(async|await) ", "", text).replace("annotations\n\n\nimport", "annotations\n\nimport")


if __name__ == "__main__":
    (HERE / "_sync.py").write_text(synchronous())
