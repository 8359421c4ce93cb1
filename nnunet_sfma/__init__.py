"""SFMANet for nnU-Net v2: a plugin that installs with pip and patches nothing."""

__version__ = "0.1.0"
