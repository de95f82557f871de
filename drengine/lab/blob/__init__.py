"""The lab's blob storage: containers, block and append blobs, SAS, leases, immutability."""
