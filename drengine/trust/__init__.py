"""Keys, signatures and who they belong to: what approvals and sealed bundles rest on."""
