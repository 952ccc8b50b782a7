"""The device code of this backend, which needs Triton to be imported."""
