"""The agent: a small program that runs on a device and measures networks there for a driver
elsewhere.

    python3 agent.pyz serve --token-file token

It needs Python 3.8, NumPy and ONNX Runtime, and nothing else of this project. It times blocks of
calls and returns the readings. Statistics, and the decision to continue, are the driver's
(`nas.measuring.devices`).

Theory of operation. A server process (`server`, `sessions`) speaks JSON over HTTP with one driver
at a time, and imports neither NumPy nor ONNX Runtime. Each session has a process of its own
(`worker`), which holds the device's lock, loads the networks and times them. Thus every session
begins in a fresh process, and a network that crashes ONNX Runtime ends its session and nothing
else. While a block is timed, nothing is sent or received.
"""

PROTOCOL = 1
"""Version of the protocol. Driver and agent must have the same."""
