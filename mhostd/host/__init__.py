"""Who a host is and which locator works now: identities, associations, paths."""
