"""The lab's SQL Managed Instance: keys, protector, databases with real keys, failover groups."""
