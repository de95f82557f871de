"""Changed bytes of the ceremony's messages: how often one gets through."""
