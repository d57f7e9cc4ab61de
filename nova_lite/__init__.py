"""Cells, compute and XenAPI: a control plane for fleets of XenServer and XCP-ng hosts."""
