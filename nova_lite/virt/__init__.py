"""Hypervisor drivers: the interface they implement and the ones this project brings."""
