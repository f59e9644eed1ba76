"""The version of this release."""

TF_VERSION = "@VERSION@"
