"""Devices elsewhere, which measure networks through an agent (`nas.agent`).

`book` knows their addresses, `connection` reaches them, `client` speaks the agent's protocol, and
`meter` is their meter. `archive` packs the agent into one file.
"""
