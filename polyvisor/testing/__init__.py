"""The kit that proves a driver, for Polyvisor's own and for those of other packages."""
