"""Evidence: from journals to facts, a report, a folder, and back to the facts again."""
